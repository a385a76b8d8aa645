"""The checks that every platform has in common."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from moorage.errors import UsageError
from moorage.launch.doctor import examine
from moorage.launch.plane import Plane
from moorage.launch.platforms.life import Check


def checks(folder: Path, **environ: str) -> dict[str, Check]:
    plane = Plane({"MOORAGE_STATE_FILE": str(folder / "state.json"), "PATH": "/usr/bin:/bin", **environ})
    return {check.name: check for check in examine(plane, "local-process")}


def test_a_good_machine(tmp_path: Path) -> None:
    found = checks(tmp_path)
    assert [found[name].ok for name in ("python", "references", "state file", "ports")] == [True] * 4
    assert all(found[name].hint == "" for name in ("python", "references", "state file", "ports"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("data", ["{", "[]"])
def test_a_corrupt_state_file_is_told_and_left_alone(tmp_path: Path, data: str) -> None:
    (tmp_path / "state.json").write_text(data)
    found = checks(tmp_path)
    assert not found["state file"].ok
    assert "moor recover" in found["state file"].hint
    assert [path.name for path in tmp_path.iterdir()] == ["state.json"]


def test_the_port_told_is_the_one_a_start_would_take(tmp_path: Path) -> None:
    port = int(checks(tmp_path)["ports"].message.split()[0])
    with socket.create_server(("127.0.0.1", port)):
        assert int(checks(tmp_path)["ports"].message.split()[0]) > port


def test_broken_references(tmp_path: Path) -> None:
    found = checks(tmp_path, MOORAGE_BUNDLE=str(tmp_path))
    assert not found["references"].ok
    assert str(tmp_path) in found["references"].message
    assert found["python"].ok


def test_an_unknown_platform(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="local-process, local-docker"):
        examine(Plane({"MOORAGE_STATE_FILE": str(tmp_path / "state.json")}), "brevv")
