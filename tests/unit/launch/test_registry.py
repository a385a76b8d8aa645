"""The state file: whole after any crash, right under any race, and never someone else's."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moorage.errors import ConflictError, RegistryCorrupt, UsageError
from moorage.launch.places import state_path
from moorage.launch.registry import Registry, State, encode_state, parse_state


@pytest.fixture
def registry(tmp_path):
    return Registry(tmp_path / "state.json")


def add(registry, job_id, **fields):
    with registry.transaction() as state:
        state.add({"job_id": job_id, "network_arch": "vllm", **fields})


def test_no_file_is_no_service(registry):
    state = registry.read()
    assert (state.services, state.latest) == ({}, None)
    assert not registry.path.exists()


def test_the_file_keeps_the_shape_other_tools_read(registry):
    add(registry, "a", host_port=8080)
    add(registry, "b")
    raw = json.loads(registry.path.read_text())
    assert set(raw) == {"a", "b", "latest"}
    assert raw["latest"] == "b"
    assert raw["a"] == {"job_id": "a", "network_arch": "vllm", "host_port": 8080}


def test_the_file_is_for_the_owner_alone(registry):
    add(registry, "a")
    assert registry.path.stat().st_mode & 0o777 == 0o600


def test_without_services_there_is_no_latest(registry):
    add(registry, "a")
    with registry.transaction() as state:
        state.remove("a")
    assert json.loads(registry.path.read_text()) == {}


def test_latest_moves_to_the_most_recently_started_one_left(registry):
    add(registry, "b", started_at="2026-01-01T12:00:00+00:00")
    add(registry, "a", started_at="2026-01-01T20:00:00+09:00")  # an hour before, whatever the text says
    add(registry, "c", started_at="2026-01-01T13:00:00Z")
    with registry.transaction() as state:
        state.remove("c")
        assert state.latest == "b"


def test_a_block_that_fails_writes_nothing(registry):
    add(registry, "a")
    before = registry.path.read_bytes()
    with pytest.raises(ZeroDivisionError), registry.transaction() as state:
        state.remove("a")
        raise ZeroDivisionError
    assert registry.path.read_bytes() == before


def test_unknown_fields_survive(registry):
    registry.path.write_text(json.dumps({"a": {"job_id": "a", "theirs": {"deep": [1, None]}}, "latest": "a"}))
    add(registry, "b")
    assert json.loads(registry.path.read_text())["a"]["theirs"] == {"deep": [1, None]}


CORRUPT = [
    b'{"\\ud800": {}}',
    b'{"a": {"x": "\\udc00"}}',
    b"",
    b"{",
    b"[]",
    b'"x"',
    b"null",
    b'{"a": 1}',
    b'{"a": {}, "b": []}',
    b"\xff\xfe{}",
    b"[" * 100_000,
]


@pytest.mark.parametrize("data", CORRUPT, ids=range(len(CORRUPT)))
def test_a_corrupt_file_is_kept_and_never_overwritten(registry, data):
    registry.path.write_bytes(data)
    for _ in range(2):
        with pytest.raises(RegistryCorrupt) as caught:
            registry.read()
        with pytest.raises(RegistryCorrupt), registry.transaction():
            pytest.fail("the block must not run")
    assert caught.value.next == ["moor recover"]
    assert registry.path.read_bytes() == data
    kept = [path for path in registry.path.parent.iterdir() if ".corrupt-" in path.name]
    assert [path.read_bytes() for path in kept] == [data]
    assert kept[0].name.startswith(registry.path.name)
    assert kept[0].stat().st_mode & 0o777 == 0o600


def test_a_copy_that_was_cut_off_is_made_again(registry):
    registry.path.write_bytes(b"{broken")
    with pytest.raises(RegistryCorrupt):
        registry.read()
    (kept,) = [path for path in registry.path.parent.iterdir() if ".corrupt-" in path.name]
    kept.write_bytes(b"{bro")
    with pytest.raises(RegistryCorrupt):
        registry.read()
    assert kept.read_bytes() == b"{broken"


def test_characters_beyond_the_first_plane_are_no_damage(registry):
    add(registry, "a", model_path="/models/\N{SHIP}")
    assert registry.read().services["a"]["model_path"] == "/models/\N{SHIP}"


@pytest.mark.parametrize("path", ["/proc/no-such/state.json", "/dev/null/state.json"])
def test_a_folder_that_cannot_be_made(path):
    with pytest.raises(ConflictError) as caught:
        add(Registry(path), "a")
    assert caught.value.code == "registry_unsafe"


def test_a_dry_run_leaves_no_copy(registry):
    registry.path.write_text("{")
    with pytest.raises(RegistryCorrupt):
        registry.read(quarantine=False)
    assert list(registry.path.parent.iterdir()) == [registry.path]


def test_rebuild_keeps_the_good_entries_of_a_damaged_file(registry):
    registry.path.write_text('{"good": {"network_arch": "vllm"}, "bad": 3, "latest": {}, "half": {"x": "\\ud800"}}')
    state = registry.rebuild({"found": {"job_id": "found", "started_at": "2026-01-01T00:00:00Z"}})
    assert set(state.services) == {"good", "found"}
    assert set(registry.read().services) == {"good", "found"}
    assert any(".corrupt-" in path.name for path in registry.path.parent.iterdir())


def test_a_symlink_is_not_followed(registry, tmp_path):
    target = tmp_path / "target.json"
    target.write_text("{}")
    registry.path.symlink_to(target)
    for use in (registry.read, lambda: add(registry, "a"), lambda: registry.rebuild({})):
        with pytest.raises(ConflictError, match="symlink"):
            use()
    assert target.read_text() == "{}"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["state.json", "target.json"]


def test_a_dangling_symlink_is_not_written_through(registry, tmp_path):
    registry.path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ConflictError):
        add(registry, "a")
    assert not (tmp_path / "elsewhere").exists()


def test_a_symlinked_lock_is_not_followed(registry, tmp_path):
    (tmp_path / "state.json.lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ConflictError):
        add(registry, "a")
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_file_of_another_user_is_not_read(registry):
    registry.path.write_text("{}")
    os.chown(registry.path, 12345, 12345)
    with pytest.raises(ConflictError, match="owned by uid 12345"):
        registry.read()
    with pytest.raises(ConflictError):
        add(registry, "a")


@pytest.mark.parametrize("make", [lambda path: path.mkdir(), lambda path: os.mkfifo(path)], ids=["folder", "fifo"])
def test_something_that_is_no_file(registry, make):
    make(registry.path)
    with pytest.raises(ConflictError):
        registry.read()


def test_the_path_must_be_absolute():
    with pytest.raises(UsageError):
        state_path({"MOORAGE_STATE_FILE": "state.json"})
    assert str(state_path({"MOORAGE_STATE_FILE": ""})) == "/tmp/tao-inf-ms-state.json"


ENTRY = st.dictionaries(st.text(max_size=5), st.none() | st.booleans() | st.integers() | st.text(), max_size=4)
IDS = st.text(min_size=1, max_size=6).filter(lambda text: text != "latest")


@given(services=st.dictionaries(IDS, ENTRY, max_size=5), latest=st.none() | IDS)
def test_what_is_written_is_what_is_read(services, latest):
    state = State({key: {**entry, "job_id": key} for key, entry in services.items()}, latest)
    again = parse_state(encode_state(state))
    assert again.services == state.services
    assert (again.latest is None) == (not services)
    assert again.latest is None or again.latest in services


@given(
    steps=st.lists(st.tuples(st.booleans(), st.sampled_from("abcd"), st.integers(0, 3)), max_size=12),
)
def test_latest_is_always_one_of_the_services(steps):
    state = State({})
    for adds, job_id, hour in steps:
        if adds:
            state.add({"job_id": job_id, "started_at": f"2026-01-01T0{hour}:00:00Z"})
            assert state.latest == job_id
        else:
            state.remove(job_id)
        assert (state.latest is None) == (not state.services)
        assert state.latest is None or state.latest in state.services


def run_python(code, *args):
    return subprocess.Popen([sys.executable, "-c", textwrap.dedent(code), *map(str, args)], stdout=subprocess.PIPE)


ADD_MANY = """
    import sys
    from pathlib import Path
    from moorage.launch.registry import Registry
    registry, me = Registry(Path(sys.argv[1])), sys.argv[2]
    for index in range(20):
        with registry.transaction() as state:
            state.add({"job_id": f"{me}-{index}", "count": len(state.services)})
            if index % 2:
                state.remove(f"{me}-{index - 1}")
"""


def test_processes_that_write_at_once_lose_nothing(registry):
    writers = [run_python(ADD_MANY, registry.path, me) for me in range(8)]
    assert [writer.wait(60) for writer in writers] == [0] * 8
    expected = {f"{me}-{index}" for me in range(8) for index in range(1, 20, 2)}
    assert set(registry.read().services) == expected
    assert not [path for path in registry.path.parent.iterdir() if path.suffix == ".tmp"]


KILLED_WRITER = """
    import sys
    from pathlib import Path
    from moorage.launch.registry import Registry
    registry = Registry(Path(sys.argv[1]))
    print("up", flush=True)
    while True:
        with registry.transaction() as state:
            state.add({"job_id": "x", "padding": "y" * 50_000, "n": state.services.get("x", {}).get("n", 0) + 1})
"""


def test_a_writer_that_is_killed_leaves_a_whole_file_and_no_lock(registry):
    add(registry, "kept")
    for _ in range(5):
        writer = run_python(KILLED_WRITER, registry.path)
        assert writer.stdout.readline() == b"up\n"
        seen = registry.read().services.get("x", {}).get("n", 0)
        while registry.read().services.get("x", {}).get("n", 0) < seen + 3:
            assert writer.poll() is None
        writer.send_signal(signal.SIGKILL)
        writer.wait(10)
        add(registry, "after")
        assert {"kept", "x", "after"} == set(registry.read().services)
