"""An exported file is whole or not there, and takes no other's place."""

from __future__ import annotations

from pathlib import Path

import pytest

from moorage.errors import ConflictError, FailedError, PreflightError, UsageError
from moorage.traces.exporting.file import write_whole, writing


def test_it_is_there_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    with writing(path, force=False) as out:
        out.write(b"one")
        assert not path.exists()
    assert path.read_bytes() == b"one"
    assert path.stat().st_mode & 0o777 == 0o600
    assert names(tmp_path) == ["a.jsonl"]


def test_what_breaks_off_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"old")
    for fault in (RuntimeError, KeyboardInterrupt):
        with pytest.raises(fault), writing(path, force=True) as out:
            out.write(b"half")
            raise fault
    with pytest.raises(FailedError) as failed, writing(path, force=True):
        raise OSError(28, "No space left on device")
    assert failed.value.code == "output_failed"
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["a"]


def test_what_is_there_stays_unless_forced(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"old")
    with pytest.raises(ConflictError) as refused:
        write_whole(path, [b"new"], force=False)
    assert refused.value.code == "output_exists"
    assert path.read_bytes() == b"old"
    write_whole(path, [b"n", b"ew"], force=True)
    assert path.read_bytes() == b"new"


def test_what_came_meanwhile_stays(tmp_path: Path) -> None:
    path = tmp_path / "a"
    with pytest.raises(ConflictError), writing(path, force=False) as out:
        out.write(b"mine")
        path.write_bytes(b"theirs")
    assert path.read_bytes() == b"theirs"
    assert names(tmp_path) == ["a"]


def test_a_link_that_leads_nowhere_is_there_too(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.symlink_to(tmp_path / "nowhere")
    with pytest.raises(ConflictError):
        write_whole(path, [b"x"], force=False)


def test_a_link_stays_one(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"old")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    write_whole(tmp_path / "b", [b"new"], force=True)
    assert (tmp_path / "b").is_symlink()
    assert (tmp_path / "a").read_bytes() == b"new"


def test_devices_stay(tmp_path: Path) -> None:
    for device in ("/dev/null", "/dev/stdout"):
        if not Path(device).is_file():
            with pytest.raises(UsageError):
                write_whole(Path(device), [b"x"], force=True)


def test_a_place_that_takes_no_file(tmp_path: Path) -> None:
    for path, fault in ((tmp_path, UsageError), (tmp_path / "no" / "a", PreflightError)):
        with pytest.raises(fault):
            write_whole(path, [b"x"], force=True)


def names(folder: Path) -> list[str]:
    return sorted(one.name for one in folder.iterdir())
