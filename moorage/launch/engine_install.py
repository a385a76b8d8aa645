"""Make the Python environment that an engine runs in, once, under the user's cache folder.

`ensure_engine` returns at once when a good environment is there. An environment is good when its marker, written last,
names the same Python, packages, constraints and removals as this release; anything else is made anew, in place, since
a virtual environment cannot be moved. Only one process makes it: a second one waits and then finds it made.

An environment may lie over another one, whose packages it sees and never changes: Ray's over vLLM's, which saves
gigabytes and minutes. Then the one below is made first.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from moorage.catalog.engine_python import (
    MARKER,
    engine_environment,
    engine_home,
    find_engine_python,
    python_variable,
    read_marker,
)
from moorage.errors import ConflictError, PreflightError
from moorage.launch.engine_recipe import GIB, UNUSABLE_ON_A_CPU, Recipe, read_recipe
from moorage.launch.platforms.base import Report

__all__ = ["PYTORCH_CPU_INDEX", "UNUSABLE_ON_A_CPU", "Recipe", "ensure_engine", "read_recipe"]

PYTORCH_CPU_INDEX = "https://download.pytorch.org/whl/cpu"
"""PyTorch's public index of CPU builds: its `+cpu` versions are on no other public index."""

MISLEADING = ("PYTHONPATH", "PYTHONHOME", "PIP_USER", "PIP_TARGET", "PIP_PREFIX")
"""Variables that would make pip or Python look or install somewhere else than in the environment."""

BELOW = "_moorage_below.pth"
"""Names the environment below, in the folder of packages of the one above."""
LOG_TAIL_LINES = 20
BEYOND_NAME = re.compile(r"[\s\[<>=!~;(@]")
"""Where a package's name ends in a requirement."""
PHASE = "install"


def ensure_engine(
    engine: str,
    *,
    gpu: bool,
    environ: Mapping[str, str],
    root: Path,
    report: Report,
    torch_index: str = PYTORCH_CPU_INDEX,
    free_bytes: Callable[[Path], int] = lambda folder: shutil.disk_usage(folder).free,
) -> Path:
    """Return the Python of a working environment for `engine`, making it first when there is none.

    `root` is the folder with versions.yaml and references/. The user's own `MOORAGE_<ENGINE>_PYTHON` is returned as it
    is. Takes minutes and gigabytes the first time. Raises PreflightError when it cannot be made (with the end of pip's
    output in `log_tail`), ConflictError when a process still runs from an outdated one.
    """
    if environ.get(python_variable(engine)):
        own = find_engine_python(engine, environ)
        assert own is not None
        return own
    recipe = read_recipe(engine, gpu=gpu, root=root)
    below = None
    if recipe.below is not None:
        below = ensure_engine(
            recipe.below.engine,
            gpu=gpu,
            environ=environ,
            root=root,
            report=report,
            torch_index=torch_index,
            free_bytes=free_bytes,
        )
    home = engine_home(engine, environ)
    if _is_current(home, recipe, below):
        return home / "bin" / "python"

    _make_folder(home.parent)
    with _lock(home, report) as lock:
        if _is_current(home, recipe, below):
            return home / "bin" / "python"
        _clear(home)
        _check_room(home.parent, recipe, free_bytes)
        with (home.parent / f"{engine}-install.log").open("w", encoding="utf-8") as log:
            _Installer(recipe, home, environ, report, log, lock, below).run(torch_index)
        _write_marker(home, recipe, below)
    return home / "bin" / "python"


@dataclass(frozen=True, slots=True)
class _Installer:
    """One making of one environment."""

    recipe: Recipe
    home: Path
    environ: Mapping[str, str]
    report: Report
    log: TextIO
    lock: int
    """The descriptor of the held lock: children inherit it, so that one whose parent was killed still holds it."""
    below: Path | None = None
    """The Python of the environment that this one lies over."""

    def run(self, torch_index: str) -> None:
        recipe = self.recipe
        self.report(PHASE, f"making a Python environment for {recipe.engine} in {self.home}")
        self._make_environment()
        if self.below is not None:
            self._lay_over(self.below)
        if recipe.torch is not None:
            self._install_torch(recipe.torch, torch_index)
        self.report(PHASE, f"installing {recipe.package} and what it needs (minutes)")
        code, tail = self._pip("install", *self._constraints(), recipe.package, *recipe.beside)
        if code != 0:
            raise self._failed(f"pip could not install {recipe.package}", tail)
        if recipe.unusable:
            self.report(PHASE, f"removing what cannot work without CUDA: {', '.join(recipe.unusable)}")
            code, tail = self._pip("uninstall", "-y", *recipe.unusable)
            if code != 0:
                raise self._failed("pip could not remove the unusable packages", tail)
        self.report(PHASE, f"importing {recipe.module} once")
        code, tail = self._run([str(self._python), "-c", f"import {recipe.module}"])
        if code != 0:
            raise self._failed(f"{recipe.package} is installed but cannot be imported", tail)

    @property
    def _python(self) -> Path:
        return self.home / "bin" / "python"

    def _make_environment(self) -> None:
        # Packages of the one below are built for its Python.
        code, tail = self._run([str(self.below or sys.executable), "-m", "venv", str(self.home)])
        if code != 0:
            raise PreflightError(
                f"no virtual environment could be made in {self.home}",
                code="engine_install_failed",
                hint="on Debian the package python3-venv is needed",
                next=["apt-get install -y python3-venv"],
                data={"log_tail": tail},
            )

    def _lay_over(self, below: Path) -> None:
        """Let the environment see the packages of the one below, after its own."""
        ask = "import json, sysconfig; print(json.dumps([sysconfig.get_path(one) for one in ('purelib', 'platlib')]))"
        code, tail = self._run([str(below), "-c", ask])
        if code != 0 or not tail:
            raise self._failed(f"{below} does not tell where its packages are", tail)
        folders = dict.fromkeys(json.loads(tail[-1]))
        lines = "".join(f"import site; site.addsitedir({folder!r})\n" for folder in folders)
        code, tail = self._run([str(self._python), "-c", ask])
        if code != 0 or not tail:
            raise self._failed(f"{self._python} does not run", tail)
        (Path(json.loads(tail[-1])[0]) / BELOW).write_text(lines, encoding="utf-8")

    def _constraints(self) -> list[str]:
        """What is below stays as it is: its pins hold here too, unless it is the user's own."""
        files = [self.recipe.constraints]
        under = self.recipe.below
        if under is not None and not self.environ.get(python_variable(under.engine)):
            files.append(under.constraints)
        return [word for file in files for word in ("-c", str(file))]

    def _install_torch(self, torch: str, index: str) -> None:
        """From pip's configured sources, and where they lack it from PyTorch's index of CPU builds.

        Without dependencies: those come with the engine, from the configured sources and within the constraints.
        """
        self.report(PHASE, f"installing {torch}")
        code, tail = self._pip("install", "--no-deps", torch)
        if code != 0 and any("No matching distribution" in line for line in tail):
            self.report(PHASE, f"pip's configured sources have no {torch}; trying {index}")
            code, tail = self._pip(
                "install", "--no-deps", "--timeout", "30", "--retries", "2", "--index-url", index, torch
            )
            if code != 0 and any("No matching distribution" in line for line in tail):
                raise self._failed(f"neither pip's configured sources nor {index} have {torch}", tail, code="no_torch")
        if code != 0:
            raise self._failed(f"pip could not install {torch}", tail)

    def _pip(self, verb: str, *arguments: str) -> tuple[int, list[str]]:
        options = ["--progress-bar", "off"] if verb == "install" else []
        total = len(self.recipe.pins())
        done = 0

        def tell(line: str) -> None:
            nonlocal done
            word, _, rest = line.strip().partition(" ")
            if word == "Collecting":
                done += 1
                self.report(PHASE, f"getting {re.split(BEYOND_NAME, rest)[0]}", done=min(done, total), total=total)
            elif line.startswith("Installing collected packages"):
                self.report(PHASE, "unpacking")

        return self._run([str(self._python), "-m", "pip", verb, *options, *arguments], tell)

    def _run(self, command: Sequence[str], tell: Callable[[str], None] | None = None) -> tuple[int, list[str]]:
        """Run to the end, copying what it says to the log. Returns the exit status and the last lines."""
        self.log.write(f"$ {' '.join(command)}\n")
        self.log.flush()
        tail: deque[str] = deque(maxlen=LOG_TAIL_LINES)
        with subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            env=self._environment(),
            pass_fds=(self.lock,),
        ) as process:
            try:
                assert process.stdout is not None
                for line in process.stdout:
                    self.log.write(line)
                    self.log.flush()
                    tail.append(line.rstrip())
                    if tell is not None:
                        tell(line)
            except BaseException:
                process.kill()
                raise
        return process.returncode, list(tail)

    def _environment(self) -> dict[str, str]:
        kept = {
            k: v for k, v in self.environ.items() if k not in ("PYTHONPATH", "PYTHONHOME", "PIP_USER", "PIP_TARGET")
        }
        added = engine_environment(
            self.recipe.engine, self._python, gpu=self.recipe.variant == "gpu", environ=self.environ
        )
        return kept | added | {"PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_NO_INPUT": "1", "PYTHONUNBUFFERED": "1"}

    def _failed(self, message: str, tail: list[str], *, code: str = "engine_install_failed") -> PreflightError:
        return PreflightError(
            message,
            code=code,
            hint=f"the whole output is in {self.log.name}; pip's sources are set by pip.conf, PIP_INDEX_URL and"
            f" PIP_FIND_LINKS; or set {python_variable(self.recipe.engine)} to a Python that has {self.recipe.engine}",
            next=[f"{self._python} -m pip config list"],
            data={"log_tail": tail},
        )


def _is_current(home: Path, recipe: Recipe, below: Path | None) -> bool:
    marker = read_marker(home)
    return (
        marker is not None
        and marker.get("digest") == recipe.digest()
        and marker.get("below") == (str(below) if below is not None else None)
        and os.access(home / "bin" / "python", os.X_OK)
    )


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as fault:
        raise PreflightError(
            f"the folder of the engine environments cannot be made: {fault}",
            code="engine_install_failed",
            hint="XDG_CACHE_HOME moves it",
        ) from fault


@contextmanager
def _lock(home: Path, report: Report) -> Iterator[int]:
    descriptor = os.open(home.parent / f".{home.name}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            report(PHASE, f"another process is making the environment for {home.name}; waiting for it")
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield descriptor
    finally:
        os.close(descriptor)


def _clear(home: Path) -> None:
    if not home.exists():
        return
    users = _running_from(home)
    if users:
        raise ConflictError(
            f"the environment in {home} is outdated, and processes still run from it: {', '.join(map(str, users))}",
            code="engine_in_use",
            hint="stop the services that use it, then try again",
            next=["moor list", "moor stop --all"],
        )
    (home / MARKER).unlink(missing_ok=True)
    shutil.rmtree(home)


def _running_from(home: Path) -> list[int]:
    """Processes that have a library of the environment loaded; none where /proc does not tell."""
    place = f"{home}/"
    found = []
    for maps in Path("/proc").glob("[0-9]*/maps"):
        try:
            if place in maps.read_text(errors="replace"):
                found.append(int(maps.parent.name))
        except OSError:
            continue
    return sorted(found)


def _check_room(folder: Path, recipe: Recipe, free_bytes: Callable[[Path], int]) -> None:
    free, needed = free_bytes(folder), recipe.room_bytes
    if free < needed:
        raise PreflightError(
            f"{recipe.package} needs {needed // GIB} GiB in {folder}, which has {free / GIB:.1f}",
            code="disk_full",
            hint="make room, or set XDG_CACHE_HOME to a folder on a larger disk",
            next=[f"df -h {folder}"],
        )


def _write_marker(home: Path, recipe: Recipe, below: Path | None) -> None:
    content = {"digest": recipe.digest(), "variant": recipe.variant, "package": recipe.package, "torch": recipe.torch}
    if below is not None:
        content["below"] = str(below)
    unfinished = home / f"{MARKER}.tmp"
    unfinished.write_text(json.dumps(content) + "\n", encoding="utf-8")
    unfinished.replace(home / MARKER)
