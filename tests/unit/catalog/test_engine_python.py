"""Which Python an engine runs with, and in which environment."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from moorage.catalog.engine_python import (
    MARKER,
    engine_environment,
    engine_home,
    find_engine_python,
    has_nvidia_gpu,
)
from moorage.errors import PreflightError


def make_program(path: Path, text: str = "#!/bin/sh\n", mode: int = 0o755) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(mode)
    return path


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    return {"HOME": str(tmp_path / "home"), "XDG_CACHE_HOME": str(tmp_path / "cache")}


def test_environments_are_in_the_cache_folder_of_the_user(tmp_path: Path) -> None:
    assert engine_home("vllm", {"HOME": "/h"}) == Path("/h/.cache/moorage/engines/vllm")
    assert engine_home("vllm", {"HOME": "/h", "XDG_CACHE_HOME": ""}) == Path("/h/.cache/moorage/engines/vllm")
    assert engine_home("ray", {"HOME": "/h", "XDG_CACHE_HOME": "/c"}) == Path("/c/moorage/engines/ray")


def test_nothing_made_and_nothing_set_is_none(environ: dict[str, str]) -> None:
    assert find_engine_python("vllm", environ) is None


@pytest.mark.parametrize("marker", [None, "", "{", "[]", "null", b"\xff"])
def test_an_environment_without_its_marker_is_half_made(environ: dict[str, str], marker: str | bytes | None) -> None:
    home = engine_home("vllm", environ)
    make_program(home / "bin" / "python")
    if marker is not None:
        (home / MARKER).write_bytes(marker if isinstance(marker, bytes) else marker.encode())
    assert find_engine_python("vllm", environ) is None


def test_a_whole_environment_is_found_and_one_whose_python_is_gone_is_not(environ: dict[str, str]) -> None:
    home = engine_home("vllm", environ)
    python = make_program(home / "bin" / "python")
    (home / MARKER).write_text(json.dumps({"digest": "d"}))
    assert find_engine_python("vllm", environ) == python
    python.unlink()
    python.symlink_to(home / "python-of-a-release-that-was-removed")
    assert find_engine_python("vllm", environ) is None


def test_the_user_s_own_python_wins_and_its_link_is_kept(environ: dict[str, str], tmp_path: Path) -> None:
    real = make_program(tmp_path / "usr" / "python3.11")
    link = tmp_path / "env" / "bin" / "python"
    link.parent.mkdir(parents=True)
    link.symlink_to(real)
    home = engine_home("vllm", environ)
    make_program(home / "bin" / "python")
    (home / MARKER).write_text("{}")
    assert find_engine_python("vllm", environ | {"MOORAGE_VLLM_PYTHON": str(link)}) == link
    assert find_engine_python("vllm", environ | {"MOORAGE_VLLM_PYTHON": ""}) == home / "bin" / "python"
    assert find_engine_python("vllm", environ | {"MOORAGE_RAY_PYTHON": str(link)}) == home / "bin" / "python"


def test_a_relative_python_of_the_user_becomes_absolute(
    environ: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_program(tmp_path / "env" / "bin" / "python")
    monkeypatch.chdir(tmp_path)
    found = find_engine_python("vllm", environ | {"MOORAGE_VLLM_PYTHON": "env/bin/python"})
    assert found == tmp_path / "env" / "bin" / "python"


@pytest.mark.parametrize("kind", ["absent", "folder", "not-executable"])
def test_a_python_that_cannot_run_is_named_and_never_passed_over(
    environ: dict[str, str], tmp_path: Path, kind: str
) -> None:
    path = tmp_path / "it"
    if kind == "folder":
        path.mkdir()
    elif kind == "not-executable":
        make_program(path, mode=0o644)
    home = engine_home("vllm", environ)
    make_program(home / "bin" / "python")
    (home / MARKER).write_text("{}")
    with pytest.raises(PreflightError) as caught:
        find_engine_python("vllm", environ | {"MOORAGE_VLLM_PYTHON": str(path)})
    assert "MOORAGE_VLLM_PYTHON" in caught.value.message
    assert str(path) in caught.value.message
    assert caught.value.next


@pytest.mark.parametrize(
    ("devices", "seen"),
    [
        ([], False),
        (["nvidia0"], True),
        (["nvidia7", "nvidiactl"], True),
        (["nvidiactl", "nvidia-uvm", "nvidia-modeset", "nvidia0-fake"], False),
        (["dri", "kfd"], False),
    ],
)
def test_a_gpu_is_a_numbered_device_of_the_driver(tmp_path: Path, devices: list[str], seen: bool) -> None:
    for name in devices:
        (tmp_path / name).touch()
    assert has_nvidia_gpu({}, devices=tmp_path) is seen
    assert has_nvidia_gpu({"CUDA_VISIBLE_DEVICES": "0,1"}, devices=tmp_path) is seen
    assert has_nvidia_gpu({"CUDA_VISIBLE_DEVICES": ""}, devices=tmp_path) is False
    assert has_nvidia_gpu({"CUDA_VISIBLE_DEVICES": "-1"}, devices=tmp_path) is False


@pytest.mark.parametrize(
    ("program", "seen"),
    [
        ("#!/bin/sh\necho 'GPU 0: NVIDIA GeForce (UUID: GPU-1)'\n", True),
        ("#!/bin/sh\necho 'No devices found.'\n", False),
        ("#!/bin/sh\necho 'GPU 0: half dead'; exit 9\n", False),
        ("not a program", False),
        (None, False),
    ],
)
def test_under_wsl_the_driver_s_own_tool_is_asked(tmp_path: Path, program: str | None, seen: bool) -> None:
    (tmp_path / "dxg").touch()
    if program is not None:
        make_program(tmp_path / "bin" / "nvidia-smi", program)
    assert has_nvidia_gpu({"PATH": f"{tmp_path}/bin"}, devices=tmp_path) is seen


def test_python3_is_the_engine_s_in_its_environment(tmp_path: Path) -> None:
    python = make_program(tmp_path / "engine" / "bin" / "python")
    make_program(tmp_path / "engine" / "bin" / "python3")
    make_program(tmp_path / "other" / "python3")
    environ = {"PATH": f"{tmp_path}/other"}
    path = engine_environment("vllm", python, gpu=False, environ=environ)["PATH"]
    assert shutil.which("python3", path=path) == str(tmp_path / "engine" / "bin" / "python3")
    assert path.split(os.pathsep)[1:] == [f"{tmp_path}/other"]
    assert engine_environment("vllm", python, gpu=True, environ={})["PATH"].split(os.pathsep)[0] == str(python.parent)


def test_only_a_cpu_engine_gets_what_a_cpu_needs_and_the_user_s_values_stay() -> None:
    python = Path("/e/bin/python")
    on_cpu = engine_environment("vllm", python, gpu=False, environ={"PATH": "/bin"})
    on_gpu = engine_environment("vllm", python, gpu=True, environ={"PATH": "/bin"})
    only_cpu = set(on_cpu) - set(on_gpu)
    assert "VLLM_CPU_KVCACHE_SPACE" in only_cpu
    assert set(engine_environment("sglang", python, gpu=False)) == set(on_gpu)
    own = engine_environment("vllm", python, gpu=False, environ={"VLLM_CPU_KVCACHE_SPACE": "8", "PATH": "/bin"})
    assert set(on_cpu) - set(own) == {"VLLM_CPU_KVCACHE_SPACE"}
