"""A write of the registry survives a power cut: what order things reach the disk in."""

from __future__ import annotations

import os
import stat

from moorage.launch.registry import Registry


def test_the_file_is_synced_before_it_takes_its_place_and_the_folder_after(tmp_path, monkeypatch):
    path = tmp_path / "state.json"
    done = []

    def sync(handle, before=os.fsync):
        done.append("folder" if stat.S_ISDIR(os.fstat(handle).st_mode) else "file")
        before(handle)

    def replace(source, target, before=os.replace):
        assert os.fspath(target) == str(path)
        done.append("replace")
        before(source, target)

    monkeypatch.setattr(os, "fsync", sync)
    monkeypatch.setattr(os, "replace", replace)
    with Registry(path).transaction() as state:
        state.add({"job_id": "a"})
    assert done == ["file", "replace", "folder"]


def test_a_block_that_changes_nothing_writes_nothing(tmp_path, monkeypatch):
    registry = Registry(tmp_path / "state.json")
    with registry.transaction() as state:
        state.add({"job_id": "a"})
    before = (tmp_path / "state.json").stat()
    with registry.transaction():
        pass
    after = (tmp_path / "state.json").stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
