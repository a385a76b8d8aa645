"""moor engine"""

from __future__ import annotations

import argparse
from typing import Any

from moorage.cli.output import Output
from moorage.cli.parser import one_of
from moorage.errors import PreflightError
from moorage.launch.plane import Plane

SUMMARY = "The Python environment of an engine: where it is; --install makes it."
ENGINES = ("vllm", "ray")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("engine", metavar="ENGINE", help="vllm, or ray: Ray Serve LLM, over vLLM's environment")
    parser.add_argument("--install", action="store_true", help="install it when it is missing or out of date")


def run(args: argparse.Namespace, plane: Plane, out: Output) -> dict[str, Any]:
    from moorage.catalog.engine_python import find_engine_python, has_nvidia_gpu, python_variable

    engine = one_of("ENGINE", args.engine, ENGINES)
    gpu = has_nvidia_gpu(plane.environ)
    if args.install:
        from moorage.launch.engine_install import ensure_engine

        python = ensure_engine(engine, gpu=gpu, environ=plane.environ, root=plane.catalog.root, report=out)
        return {"engine": engine, "python": str(python), "gpu": gpu}
    found = find_engine_python(engine, plane.environ)
    if found is None:
        raise PreflightError(
            f"there is no {engine} environment on this machine",
            code="engine_missing",
            hint=f"install it, or set {python_variable(engine)} to a Python that has it",
            next=[f"moor engine {engine} --install"],
        )
    return {"engine": engine, "python": str(found), "gpu": gpu}


def show(data: dict[str, Any], out: Output) -> None:
    out.line(data["python"])
