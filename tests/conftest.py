"""Fixtures for every test, and what a missing real part does to a run (see tests/real/parts/absence.py)."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import hypothesis
import pytest

from moorage.catalog.catalog import load_catalog
from moorage.catalog.engine_python import has_nvidia_gpu
from moorage.catalog.image import resolve_image
from moorage.errors import MoorageError
from moorage.launch.engine_install import ensure_engine
from moorage.launch.platforms.base import Report
from tests.real.parts.absence import MARK, PartMissing, count_missing, real_is_required, require_real
from tests.real.parts.container_image import TAO_ARCHS, TaoImage, load_tao_image, programs_on_path, unload
from tests.real.parts.docker_engine import DockerEngine, find_engine, private_engine
from tests.real.parts.kubernetes_build import ensure_programs
from tests.real.parts.postgres import Postgres, postgres_server
from tests.real.parts.vllm_engine import serving_nano

ROOT = Path(__file__).resolve().parents[1]
REAL_MARKS = ("docker", "remote", "slurm", "kubernetes", "postgres", "vllm", "ray")
VLLM = pytest.StashKey[Path | str]()
"""The engine's Python, or why there is none."""
RAY = pytest.StashKey[Path | str]()
"""The Python of Ray Serve LLM, or why there is none."""

# CI must give the same verdict twice; elsewhere each run looks at new examples.
hypothesis.settings.register_profile("ci", deadline=None, derandomize=True, database=None, print_blob=True)
hypothesis.settings.register_profile("explore", deadline=None)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") or real_is_required(os.environ) else "explore")


def pytest_configure() -> None:
    """Heed signals that a run in the background, or under nohup, is told to ignore: so would every command it tests."""
    for number, handler in (
        (signal.SIGINT, signal.default_int_handler),
        (signal.SIGHUP, signal.SIG_DFL),
        (signal.SIGTERM, signal.SIG_DFL),
    ):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, handler)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Make what takes minutes before the first test, since tests have time limits: the engine, Kubernetes."""
    if session.config.option.collectonly:
        return
    terminal = session.config.pluginmanager.get_plugin("terminalreporter")

    def report(phase: str, message: str, **numbers: float) -> None:
        if not numbers and terminal is not None:
            terminal.write_line(f"{phase}: {message}")

    if any(item.get_closest_marker("kubernetes") for item in session.items):
        with contextlib.suppress(PartMissing):  # the tests say so themselves
            ensure_programs(cache_folder(), lambda message: report("kubernetes", message))
    for mark, key in (("vllm", VLLM), ("ray", RAY)):
        if any(item.get_closest_marker(mark) for item in session.items):
            session.config.stash[key] = _ensure_engine(mark, report)


def _ensure_engine(engine: str, report: Report) -> Path | str:
    """Its Python, or why there is none."""
    try:
        return ensure_engine(engine, gpu=has_nvidia_gpu(os.environ), environ=os.environ, root=ROOT, report=report)
    except MoorageError as fault:
        tail = "\n".join((fault.data or {}).get("log_tail", []))
        return f"{fault.message}; {fault.hint}\n{tail}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """Under MOORAGE_REQUIRE_REAL=1 a test of a real part that skips, for whatever reason, has failed."""
    report = yield
    marked = any(item.get_closest_marker(mark) for mark in REAL_MARKS)
    if report.skipped and marked and not hasattr(report, "wasxfail") and real_is_required(os.environ):
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} may not skip under MOORAGE_REQUIRE_REAL: {report.longrepr}"
    return report


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Say which real parts were missing: a green run that skipped them has shown less."""
    skipped = terminalreporter.stats.get("skipped", [])
    reasons = [report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr) for report in skipped]
    lines = count_missing(reason for reason in reasons if MARK in reason)
    if lines:
        terminalreporter.section("real parts that were missing")
        for line in lines:
            terminalreporter.write_line(line)


@pytest.fixture(autouse=True)
def own_signals() -> Iterator[None]:
    """A command that is run in this process ends deaf to signals, and what is started later would be as well."""
    numbers = (signal.SIGINT, signal.SIGHUP, signal.SIGTERM)
    before = {number: signal.getsignal(number) for number in numbers}
    yield
    for number, handler in before.items():
        if signal.getsignal(number) is not handler:
            signal.signal(number, handler)


@pytest.fixture
def state_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The registry of this test alone, in a folder of its own; logs and marks of its services too.

    The cache folder stays the user's: the engine environments are there.
    """
    file = tmp_path / "state" / "tao-inf-ms-state.json"
    file.parent.mkdir(mode=0o700)
    monkeypatch.setenv("MOORAGE_STATE_FILE", str(file))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "xdg-state"))
    return file


class Answer(NamedTuple):
    """What a command answered."""

    rc: int
    out: Any
    """Parsed: the object, or the list of them for NDJSON; the text itself when it is not JSON."""
    err: str


class Moor:
    """The command line, as a process of its own that inherits the test's environment."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ

    def __call__(
        self,
        *arguments: str | Path,
        env: Mapping[str, str | None] | None = None,
        stdin: str | None = None,
        timeout: float = 120,
        prefix: Sequence[str] = (),
    ) -> Answer:
        """Run to the end. `env`: variables to add, None to take one away. `prefix`: words before the command."""
        with subprocess.Popen(
            [*prefix, *self._command(arguments)],
            env=self._with(env or {}),
            stdin=subprocess.DEVNULL if stdin is None else subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            try:
                out, err = process.communicate(stdin, timeout)
            except subprocess.TimeoutExpired as late:
                process.kill()
                said = [stream.decode(errors="replace") for stream in (late.stdout, late.stderr) if stream]
                pytest.fail("\n".join([f"moor {' '.join(map(str, arguments))}: {timeout} s are over", *said]))
        return Answer(process.returncode, parse_output(out), err)

    def popen(
        self, *arguments: str | Path, env: Mapping[str, str | None] | None = None, prefix: Sequence[str] = ()
    ) -> subprocess.Popen[str]:
        """Start it and leave it running, in a session of its own so that a signal reaches only it."""
        return subprocess.Popen(
            [*prefix, *self._command(arguments)],
            env=self._with(env or {}),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def _command(self, arguments: Sequence[str | Path]) -> list[str]:
        return [sys.executable, "-m", "moorage.cli.main", *map(str, arguments)]

    def _with(self, changes: Mapping[str, str | None]) -> dict[str, str]:
        merged = {**self._environ, "PYTHONPATH": str(ROOT), **changes}
        return {name: value for name, value in merged.items() if value is not None}


def parse_output(text: str) -> Any:
    for read in (json.loads, lambda several: [json.loads(line) for line in several.splitlines()]):
        try:
            return read(text)
        except ValueError:
            continue
    return text


@pytest.fixture
def moor(state_file: Path) -> Iterator[Moor]:
    """`moor("list", "--json") -> (rc, out, err)`; services that the test left are stopped after it."""
    run = Moor(os.environ)
    yield run
    if state_file.exists() and state_file.stat().st_size > len("{}\n"):
        run("stop", "--all", "--json")


@pytest.fixture(scope="session")
def nano_engine(vllm_python: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of stock vLLM that serves models/nano as `nano`, with its parsers; one for all tests of a run."""
    with serving_nano(vllm_python, tmp_path_factory.mktemp("engine")) as url:
        yield url


@pytest.fixture(scope="session")
def parts_cache() -> Path:
    """Where real parts that are slow to make are kept between runs, outside the checkout."""
    return cache_folder()


def cache_folder() -> Path:
    home = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    folder = Path(home) / "moorage" / "test-parts"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def docker_engine() -> Iterator[DockerEngine]:
    """The Docker engine that answers, else a private one; DOCKER_HOST names it for the rest of the run."""
    found = find_engine()
    if found is not None:
        yield found
        return
    with pytest.MonkeyPatch.context() as patch:
        try:
            with private_engine() as engine:
                patch.setenv("DOCKER_HOST", engine.host)
                yield engine
        except PartMissing as missing:
            require_real(str(missing))


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A PostgreSQL server of this run alone. Tests that use it carry the mark `postgres`."""
    try:
        with postgres_server() as server:
            yield server
    except PartMissing as missing:
        require_real(str(missing))


@pytest.fixture(scope="session")
def docker_engine_with_gpus() -> Iterator[DockerEngine]:
    """A private engine that takes GPU requests, in a network of its own: `moor(..., prefix=engine.enter)`."""
    try:
        with private_engine(with_gpus=True) as engine:
            yield engine
    except PartMissing as missing:
        require_real(str(missing))


@pytest.fixture(scope="session")
def tao_image_of_run(docker_engine: DockerEngine, parts_cache: Path) -> Iterator[TaoImage]:
    """The stand-in image in `docker_engine`; most tests want `tao_image`."""
    image = _tao_image(docker_engine, parts_cache)
    yield image
    if not docker_engine.private:
        unload(docker_engine, image)


@pytest.fixture
def tao_image(tao_image_of_run: TaoImage, monkeypatch: pytest.MonkeyPatch) -> TaoImage:
    """The stand-in image, under the name that each TAO arch resolves to in this test's environment."""
    for name, value in tao_image_of_run.environ.items():
        monkeypatch.setenv(name, value)
    return tao_image_of_run


@pytest.fixture(scope="session")
def tao_image_with_gpus(docker_engine_with_gpus: DockerEngine, parts_cache: Path) -> TaoImage:
    """The stand-in image in `docker_engine_with_gpus`, under the real names."""
    return _tao_image(docker_engine_with_gpus, parts_cache)


@pytest.fixture
def tao_programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The stand-in's programs on PATH, for TAO archs on local-process."""
    folder = tmp_path / "tao-programs"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    return programs_on_path(folder, sys.executable)


@pytest.fixture(scope="session")
def vllm_python(request: pytest.FixtureRequest) -> Path:
    """The Python of a real vLLM environment. Tests that use it carry the mark `vllm`."""
    found = request.config.stash.get(VLLM, "the test that asks for vLLM lacks the mark vllm")
    return found if isinstance(found, Path) else require_real(found)


@pytest.fixture(scope="session")
def ray_python(request: pytest.FixtureRequest) -> Path:
    """The Python of a real environment of Ray Serve LLM. Tests that use it carry the mark `ray`."""
    found = request.config.stash.get(RAY, "the test that asks for Ray lacks the mark ray")
    return found if isinstance(found, Path) else require_real(found)


@pytest.fixture(scope="session")
def nano() -> Path:
    """The tiny trained model of this checkout, which vLLM serves."""
    return ROOT / "models" / "nano"


def _tao_image(engine: DockerEngine, cache: Path) -> TaoImage:
    catalog = load_catalog(ROOT)
    try:
        return load_tao_image(engine, {arch: resolve_image(catalog, arch, {}).image for arch in TAO_ARCHS}, cache)
    except PartMissing as missing:
        require_real(str(missing))
