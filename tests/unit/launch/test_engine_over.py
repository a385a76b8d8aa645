"""An environment that lies over another one: Ray's over vLLM's, real environments with wheels of a few bytes."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
from collections.abc import Mapping
from pathlib import Path

import pytest

from moorage.catalog.engine_python import engine_home, find_engine_python
from moorage.errors import PreflightError
from moorage.launch.engine_install import ensure_engine, read_recipe
from tests.unit.launch.test_engine_install import Site, make_wheel, site

__all__ = ["site"]

pytestmark = pytest.mark.slow  # real environments are made

SERVE_LLM = "import vllm.entrypoints.openai.api_server, pyarrow, moorage_above\n"


def make_ray(site: Site, entry: str = SERVE_LLM) -> None:
    recipe = read_recipe("ray", gpu=False, root=site.root)
    files = {"ray/__init__.py": "", "ray/serve/__init__.py": "", "ray/serve/llm.py": entry}
    make_wheel(site.wheels, "ray", recipe.package.split("==")[1], files, ("moorage_above", "moorage_pinned"))
    make_wheel(site.wheels, "pyarrow", recipe.beside[0].split("==")[1], {"pyarrow.py": ""})
    for number in ("1.0", "2.0"):
        make_wheel(site.wheels, "moorage_above", number, {"moorage_above.py": f"version = {number!r}\n"})
    (site.root / "references" / "constraints" / "ray.txt").write_text("moorage_above==1.0\n")


def ensure(site: Site, environ: Mapping[str, str] | None = None) -> Path:
    return ensure_engine("ray", gpu=False, environ=environ or site.environ, root=site.root, report=site.report)


def asked(python: Path, code: str) -> str:
    return subprocess.run([str(python), "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def test_it_sees_what_is_below_and_holds_only_what_is_its_own(site: Site) -> None:
    site.make_wheels()
    make_ray(site)
    python = ensure(site)
    assert python == engine_home("ray", site.environ) / "bin" / "python" == find_engine_python("ray", site.environ)
    below, above = str(site.home), str(engine_home("ray", site.environ))
    where = "import {0}; print({0}.__file__)"
    assert asked(python, where.format("moorage_pinned")).startswith(f"{below}/"), "it is there already"
    assert asked(python, where.format("vllm")).startswith(f"{below}/")
    assert asked(python, where.format("ray")).startswith(f"{above}/")
    assert asked(python, "import moorage_above; print(moorage_above.version)") == "1.0"
    site.said.clear()
    assert ensure(site) == python and site.said == []


def test_when_what_is_below_changes_it_is_made_anew(site: Site) -> None:
    before = read_recipe("ray", gpu=False, root=site.root).digest()
    site.constrain("moorage_pinned==2.0\n")
    assert read_recipe("ray", gpu=False, root=site.root).digest() != before


def test_it_lies_over_a_python_of_the_users_own(site: Site) -> None:
    make_ray(site, entry="import pyarrow, moorage_pinned\n")
    make_wheel(site.wheels, "moorage_pinned", "3.0", {"moorage_pinned.py": "version = '3.0'\n"})
    own = Path(sys.base_prefix) / "bin" / f"python3.{sys.version_info.minor}"
    python = ensure(site, {**site.environ, "MOORAGE_VLLM_PYTHON": str(own)})
    assert sysconfig.get_path("purelib", vars={"base": sys.base_prefix}) in asked(python, "import sys; print(sys.path)")
    assert asked(python, "import moorage_pinned; print(moorage_pinned.version)") == "3.0", "its pins are its user's"
    assert not site.home.exists()


def test_ones_own_is_taken_as_it_is(site: Site) -> None:
    assert ensure(site, {**site.environ, "MOORAGE_RAY_PYTHON": sys.executable}) == Path(sys.executable)
    with pytest.raises(PreflightError, match="MOORAGE_RAY_PYTHON"):
        ensure(site, {**site.environ, "MOORAGE_RAY_PYTHON": "/nowhere"})
