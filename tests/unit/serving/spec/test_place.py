"""Where sources really are: links followed, and nothing told of what lies outside."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moorage.serving.spec import place
from moorage.serving.spec.place import Place, Places, look
from moorage.serving.spec.source import SourcePath
from tests.unit.serving.spec.platform_root import make_root


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return make_root(tmp_path)


def at(path: Path | str, root: Path, user_id: str = "alice") -> Place:
    clean = "/" + "/".join(part for part in str(path).split("/") if part)
    return look(SourcePath(clean), Places.of(user_id, root))


@pytest.fixture(autouse=True)
def no_descriptor_is_lost() -> Iterator[None]:
    before = len([*Path("/proc/self/fd").iterdir()])
    yield
    assert len([*Path("/proc/self/fd").iterdir()]) == before


@pytest.mark.parametrize("name", ["hf/m", "users/alice/m", "hf", "users/alice"])
def test_own_and_common_places(root: Path, name: str) -> None:
    assert at(root / name, root) is Place.THERE


@pytest.mark.parametrize("name", ["hf/none", "users/alice/none/deeper", "hf/m/none"])
def test_what_is_not_there(root: Path, name: str) -> None:
    assert at(root / name, root) is Place.MISSING


@pytest.mark.parametrize(
    "name",
    [
        "users/bob",
        "users/bob/secret",
        "users/bob/none",
        "users",
        "users/alicex",
        "users/alicex/m",
        "users/alic",
        "hf-x/m",
        "hf-none",
        "datasets",
        "datasets/d",
        "datasets/none",
        "",
        "other",
        "users/carol",
        "../outside",
        "../outside/none",
        "../private-2/hf/m",
    ],
)
def test_everything_else_is_forbidden(root: Path, name: str) -> None:
    assert at(os.path.normpath(root / name), root) is Place.FORBIDDEN


@pytest.mark.parametrize("name", ["/", "/etc", "/etc/passwd", "/none", "/proc/self/root"])
def test_outside_the_root(root: Path, name: str) -> None:
    assert at(name, root) is Place.FORBIDDEN


def test_a_file_is_something_and_a_pipe_is_not(root: Path) -> None:
    (root / "hf/model.gguf").write_bytes(b"")
    os.mkfifo(root / "hf/pipe")
    assert at(root / "hf/model.gguf", root) is Place.THERE
    assert at(root / "hf/model.gguf/x", root) is Place.MISSING
    assert at(root / "hf/pipe", root) is Place.MISSING


TARGETS = [
    ("../bob/secret", Place.FORBIDDEN),
    ("../bob/none", Place.FORBIDDEN),
    ("/etc", Place.FORBIDDEN),
    ("/none", Place.FORBIDDEN),
    ("..", Place.FORBIDDEN),
    ("../../datasets/d", Place.FORBIDDEN),
    ("../../../outside", Place.FORBIDDEN),
    ("none/../../bob/secret", Place.FORBIDDEN),
    ("../bob/../alice/m", Place.FORBIDDEN),  # which would tell whether bob is there
    ("../bob/back", Place.FORBIDDEN),  # where a link leads back to alice
    ("/proc/self/cwd", Place.FORBIDDEN),
    ("../../hf/m", Place.THERE),
    ("m", Place.THERE),
    ("./m/../m/.", Place.THERE),
    ("../alice/m", Place.THERE),
    ("none", Place.MISSING),
    ("../../hf/none", Place.MISSING),
]


@pytest.mark.parametrize(("target", "answer"), TARGETS)
def test_links(root: Path, target: str, answer: Place) -> None:
    (root / "users/bob/back").symlink_to(root / "users/alice/m")
    (root / "users/alice/link").symlink_to(target)
    (root / "users/alice/by").symlink_to("link")
    assert at(root / "users/alice/link", root) is answer
    assert at(root / "users/alice/by", root) is answer
    if answer is Place.FORBIDDEN:
        assert at(root / "users/alice/link/deeper", root) is answer


@pytest.mark.parametrize(
    "target", ["users/bob/secret", "users/bob/none", "datasets/d", "hf/m", "users/alice/m", "users/alice/none"]
)
def test_absolute_links(root: Path, target: str) -> None:
    (root / "users/alice/link").symlink_to(root / target)
    expected = Place.FORBIDDEN if "bob" in target or "datasets" in target else Place.THERE
    assert at(root / "users/alice/link", root) is (Place.MISSING if target == "users/alice/none" else expected)


@pytest.mark.parametrize(("target", "answer"), TARGETS)
def test_a_folder_with_a_link_out_is_forbidden(root: Path, target: str, answer: Place) -> None:
    folder = root / "users/alice/model"
    folder.mkdir()
    (root / "users/bob/back").symlink_to(root / "users/alice/m")
    (folder / "config.json").write_text("{}")
    (folder / "weights").symlink_to(target if target.startswith("/") else f"../{target}")
    expected = Place.FORBIDDEN if answer is Place.FORBIDDEN else Place.THERE
    assert at(folder, root) is expected


def test_a_snapshot_of_the_hub(root: Path) -> None:
    """Its files are links into a folder beside it."""
    blobs, snapshot = root / "hf/hub/models--a--b/blobs", root / "hf/hub/models--a--b/snapshots/0a1b"
    blobs.mkdir(parents=True)
    snapshot.mkdir(parents=True)
    (blobs / "77").write_text("{}")
    (snapshot / "config.json").symlink_to("../../blobs/77")
    assert at(snapshot, root) is Place.THERE


def test_links_in_a_circle(root: Path) -> None:
    (root / "users/alice/one").symlink_to("two")
    (root / "users/alice/two").symlink_to("one")
    (root / "users/alice/self").symlink_to("self/self")
    assert at(root / "users/alice/one", root) is Place.MISSING
    assert at(root / "users/alice/self", root) is Place.MISSING
    assert at(root / "users/alice", root) is Place.THERE


def test_a_maze_of_links_ends(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(place, "MOST_OPENED", 500)
    deep = root / "users/alice/maze"
    deep.mkdir()
    for number in range(100):
        (deep / f"l{number}").symlink_to("../maze/" * 20 + "x")
    assert at(deep, root) is Place.CROWDED


def test_a_crowded_folder(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(place, "MOST_ENTRIES", 3)
    for name in "abcd":
        (root / "hf/m" / name).touch()
    assert at(root / "hf/m", root) is Place.CROWDED


def test_a_root_behind_links(tmp_path: Path) -> None:
    """The operator may have links above and inside the root."""
    real = make_root(tmp_path / "disk")
    shutil.move(str(real / "hf"), str(tmp_path / "big"))
    (real / "hf").symlink_to(tmp_path / "big")
    (tmp_path / "way").symlink_to("disk")
    root = tmp_path / "way" / "private"
    (real / "users/alice/common").symlink_to(root / "hf/m")
    for path in (
        root / "hf/m",
        root / "users/alice/m",
        real / "hf/m",
        real / "users/alice/common",
        root / "users/alice/common",
    ):
        assert at(path, root) is Place.THERE, path
    for path in (root / "users/bob", real / "users/bob", tmp_path / "way", tmp_path / "disk"):
        assert at(path, root) is Place.FORBIDDEN, path


@pytest.mark.parametrize("target", ["bob", "..", ".", "../datasets", "../hf", "bob/secret"])
def test_a_home_that_is_somebody_elses_is_none(root: Path, target: str) -> None:
    shutil.rmtree(root / "users/alice")
    (root / "users/alice").symlink_to(target)
    for path in ("users/alice", "users/alice/secret", "users/alice/m"):
        assert at(root / path, root) is Place.FORBIDDEN
    assert at(root / "hf/m", root) is Place.THERE


def test_a_home_on_another_disk(root: Path, tmp_path: Path) -> None:
    shutil.move(str(root / "users/alice"), str(tmp_path / "disk2"))
    (root / "users/alice").symlink_to(tmp_path / "disk2")
    assert at(root / "users/alice/m", root) is Place.THERE
    assert at(root / "users/alice", root, "bob") is Place.FORBIDDEN


def test_a_user_without_a_folder(root: Path) -> None:
    assert at(root / "users/carol/m", root, "carol") is Place.MISSING


@pytest.mark.parametrize("name", ["m", "."])
def test_a_folder_that_this_server_may_not_read(root: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Root may read everything, so here the kernel is told what to say."""
    really = os.open

    def refuse(path: str, *args: int, **more: int) -> int:
        if path == name:
            raise PermissionError(13, "Permission denied")
        return really(path, *args, **more)

    monkeypatch.setattr(os, "open", refuse)
    answer = at(root / "hf/m", root)
    monkeypatch.undo()
    assert answer is Place.UNREADABLE


def test_a_folder_that_becomes_a_link_is_not_followed(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exchanged between the look at it and the look at what is in it."""
    really = os.open
    (root / "users/bob/secret/x").touch()
    (root / "users/alice/m/x").touch()

    def exchange(path: str, *args: int, **more: int) -> int:
        if path == "x" and (root / "users/alice/m").is_dir() and not (root / "users/alice/m").is_symlink():
            (root / "users/alice/m").rename(root / "users/alice/was")
            (root / "users/alice/m").symlink_to("../bob/secret")
        return really(path, *args, **more)

    monkeypatch.setattr(os, "open", exchange)
    answer = at(root / "users/alice/m/x", root)
    monkeypatch.undo()
    # Whatever the second look finds, it is not what bob has.
    assert answer is Place.MISSING


parts = st.sampled_from(["m", "n", "l1", "l2", "..", ".", "bob", "alice", "secret", "users", "hf", "none"])
ways = st.lists(parts, min_size=1, max_size=6).map("/".join)
starts = st.sampled_from(["", "ROOT/", "ROOT/users/alice/", "ROOT/users/bob/", "ROOT/hf/", "ROOT/../outside/"])
targets = st.tuples(starts, ways).map("".join)
PLACES = ("users/alice", "users/alice/m", "hf", "hf/m", "users/bob", "users/bob/secret", "../outside")
links = st.dictionaries(st.tuples(st.sampled_from(PLACES), st.sampled_from(["l1", "l2", "n"])), targets, max_size=8)
asked = st.tuples(
    st.sampled_from(["users/alice", "hf"]),
    st.lists(st.sampled_from(["m", "n", "l1", "l2", "bob", "none"]), max_size=4).map("/".join),
)


@settings(max_examples=50)  # each makes a tree of folders; the law held for thousands
@given(links, asked)
def test_no_way_leads_out_and_none_tells_what_is_there(
    links: dict[tuple[str, str], str], asked: tuple[str, str]
) -> None:
    with TemporaryDirectory() as folder:
        root = make_root(Path(folder))
        for (where, name), target in links.items():
            (root / where / name).symlink_to(target.replace("ROOT", str(root)))
        path = root / asked[0] / asked[1]
        answer = at(path, root)
        really = Path(os.path.realpath(path))
        mine = (Path(os.path.realpath(root / "users/alice")), Path(os.path.realpath(root / "hf")))
        if answer is Place.THERE:
            assert any(really.is_relative_to(one) for one in mine)
            assert really.exists()
            for entry in really.iterdir() if really.is_dir() else ():
                ends = Path(os.path.realpath(entry))
                assert any(ends.is_relative_to(one) for one in mine)
        # What is in forbidden places must not change any answer.
        shutil.rmtree(root / "users/bob")
        shutil.rmtree(root / "../outside")
        (root / "users/bob").write_text("now a file")
        assert at(path, root) is answer
