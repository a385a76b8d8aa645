from __future__ import annotations

import base64
import os
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moorage.catalog.catalog import Catalog, load_catalog
from moorage.catalog.request_body import MediaKind, build_body, cross_check
from moorage.catalog.shapes import ArchRequestRules
from moorage.errors import FailedError, MoorageError, UsageError
from moorage.launch import media
from moorage.launch.media import check_output_target, is_media_reply, load_media, save_media_reply

ROOT = Path(__file__).parents[3]
VIDEO = b"\x00\x00\x00\x18ftypmp42" + bytes(range(256))
REPLY = f"data:video/mp4;base64,{base64.b64encode(VIDEO).decode()}"


@pytest.fixture(scope="module")
def catalog() -> Catalog:
    return load_catalog(ROOT)


@pytest.fixture
def rules(catalog: Catalog) -> ArchRequestRules:
    return catalog.rules("cosmos-rl")


def refusal(given: str, kind: MediaKind, rules: ArchRequestRules) -> UsageError:
    with pytest.raises(UsageError) as caught:
        load_media(given, kind, rules)
    assert caught.value.code == "bad_media"
    assert caught.value.exit_status == 2
    for suffix in rules.image_suffixes if kind == "image" else rules.video_suffixes:
        assert suffix in caught.value.hint
    return caught.value


@pytest.mark.parametrize(
    ("name", "kind", "mime"),
    [
        ("a.jpg", "image", "image/jpeg"),
        ("a.JPEG", "image", "image/jpeg"),
        ("a b é.png", "image", "image/png"),
        ("a.mp4", "video", "video/mp4"),
        ("a.mov", "video", "video/mov"),
        ("a.x.mkv", "video", "video/x-matroska"),
    ],
)
def test_files_become_data_uris_of_the_types_that_the_servers_know(
    tmp_path: Path, catalog: Catalog, rules: ArchRequestRules, name: str, kind: MediaKind, mime: str
) -> None:
    (tmp_path / name).write_bytes(VIDEO)
    item = load_media(str(tmp_path / name), kind, rules)
    header, _, payload = item.url.partition(",")
    assert (item.kind, header) == (kind, f"data:{mime};base64")
    assert base64.b64decode(payload, validate=True) == VIDEO
    body = build_body(catalog, "cosmos-rl", model=None, prompt="x", system=None, media=[item], values={})
    assert cross_check(catalog, "cosmos-rl", body) == []


def test_every_suffix_of_every_arch_is_taken(tmp_path: Path, catalog: Catalog) -> None:
    for arch in catalog.archs:
        rules = catalog.rules(arch)
        kinds: list[tuple[MediaKind, list[str]]] = [("image", rules.image_suffixes), ("video", rules.video_suffixes)]
        for kind, suffixes in kinds:
            for suffix in suffixes:
                file = tmp_path / f"x{suffix}"
                file.write_bytes(b"x")
                item = load_media(str(file), kind, rules)
                body = build_body(catalog, arch, model=None, prompt=None, system=None, media=[item], values={})
                assert cross_check(catalog, arch, body) == []


def test_a_relative_path_and_a_link_are_followed(
    tmp_path: Path, rules: ArchRequestRules, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "real.bin").write_bytes(b"x")
    (tmp_path / "link.png").symlink_to("real.bin")
    monkeypatch.chdir(tmp_path)
    assert load_media("link.png", "image", rules).url == "data:image/png;base64,eA=="


@pytest.mark.parametrize("given", ["http://h/a.xyz", "https://h/a", "HTTPS://h", "data:image/png;base64,AAAA", "data:"])
def test_uris_pass_as_they_are(rules: ArchRequestRules, given: str) -> None:
    assert load_media(given, "image", rules).url == given


@pytest.mark.parametrize("scheme", ["s3", "gs", "az", "cs", "aws", "S3"])
def test_cloud_uris_are_refused(rules: ArchRequestRules, scheme: str) -> None:
    fault = refusal(f"{scheme}://hunter2hunter2@bucket/a.png?x=hunter2hunter2", "image", rules)
    assert "cloud storage" in fault.message
    assert "hunter2" not in fault.message + fault.hint


@pytest.mark.parametrize(
    "given", ["ftp://h/a.png", "file:///a.png", "", "a\x00.png", "\udcff.png", "x" * 5000 + ".png"]
)
def test_what_is_neither_a_path_nor_a_uri_is_refused(rules: ArchRequestRules, given: str) -> None:
    refusal(given, "image", rules).message.encode()


def test_bad_files_are_refused_with_the_reason(tmp_path: Path, rules: ArchRequestRules) -> None:
    (tmp_path / "empty.png").touch()
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "a.webp").write_bytes(b"x")
    (tmp_path / "a.mp4").write_bytes(b"x")
    (tmp_path / "none").write_bytes(b"x")
    os.mkfifo(tmp_path / "pipe.png")
    reasons = {
        "gone.png": "No such file",
        "empty.png": "empty",
        "folder.png": "folder",
        "pipe.png": "regular file",
        "a.webp": "'.webp'",
        "a.mp4": "'.mp4'",
        "none": "''",
    }
    for name, reason in reasons.items():
        fault = refusal(str(tmp_path / name), "image", rules)
        assert reason in fault.message
        assert name in fault.message


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path, rules: ArchRequestRules) -> None:
    """A process's own memory cannot be read at address 0, not even by root, whom permissions do not stop."""
    (tmp_path / "a.png").symlink_to("/proc/self/mem")
    assert "cannot be read: Input/output error" in refusal(str(tmp_path / "a.png"), "image", rules).message


def test_an_arch_without_videos_says_so(tmp_path: Path, rules: ArchRequestRules) -> None:
    (tmp_path / "a.mp4").write_bytes(b"x")
    none = rules.model_copy(update={"video_suffixes": []})
    assert "takes none" in refusal(str(tmp_path / "a.mp4"), "video", none).hint


@pytest.mark.parametrize(("size", "taken"), [(5, True), (6, True), (7, False), (9, False), (10, False)])
def test_the_largest_size_is_the_servers(
    tmp_path: Path, rules: ArchRequestRules, monkeypatch: pytest.MonkeyPatch, size: int, taken: bool
) -> None:
    """The server reckons from the encoded length, so a file that fills up its last group of three counts as full."""
    monkeypatch.setattr(media, "INLINE_MEDIA_BYTES", 8)
    file = tmp_path / "a.png"
    file.write_bytes(b"x" * size)
    if taken:
        load_media(str(file), "image", rules)
    else:
        assert "larger than" in refusal(str(file), "image", rules).message


def test_a_huge_file_is_refused_without_reading_it(tmp_path: Path, rules: ArchRequestRules) -> None:
    file = tmp_path / "a.mp4"
    with file.open("wb") as sparse:
        sparse.truncate(1 << 40)
    assert "512 MiB" in refusal(str(file), "video", rules).message


# ---- replies ------------------------------------------------------------------------------------------------------


def test_a_reply_is_saved_under_the_name_that_was_asked_for(tmp_path: Path) -> None:
    target = tmp_path / "out.bin"
    target.write_bytes(b"older and longer " * 100)
    saved = save_media_reply(REPLY, target, tmp_path / "nowhere", "job")
    assert saved == target
    assert target.read_bytes() == VIDEO
    assert [file.name for file in tmp_path.iterdir()] == ["out.bin"]


def test_a_relative_target_is_below_the_working_folder(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    assert save_media_reply(REPLY, Path("sub/../out.mp4"), tmp_path, "job") == tmp_path / "out.mp4"
    assert (tmp_path / "out.mp4").read_bytes() == VIDEO


@pytest.mark.parametrize(
    ("mime", "suffix"),
    [
        ("video/mp4", ".mp4"),
        ("VIDEO/MP4", ".mp4"),
        ("image/png", ".png"),
        ("image/jpeg", ".jpg"),
        ("image/webp", ".webp"),
        ("video/x-matroska", ".mkv"),
        ("video/mov", ".mov"),
        ("video/newest", ".newest"),
        ("application/vnd.a-b+c", ".bin"),
    ],
)
def test_without_a_target_the_type_gives_the_suffix(tmp_path: Path, mime: str, suffix: str) -> None:
    saved = save_media_reply(REPLY.replace("video/mp4", mime), None, tmp_path, "6f1b-job")
    assert saved.parent == tmp_path
    assert saved.name == f"6f1b-job{suffix}"
    assert saved.read_bytes() == VIDEO


def test_without_a_target_nothing_is_written_over(tmp_path: Path) -> None:
    names = [save_media_reply(REPLY, None, tmp_path, "job").name for _ in range(3)]
    assert names == ["job.mp4", "job-1.mp4", "job-2.mp4"]


def test_saved_files_follow_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        saved = save_media_reply(REPLY, None, tmp_path, "job")
        named = save_media_reply(REPLY, tmp_path / "named.mp4", tmp_path, "job")
    finally:
        os.umask(before)
    assert stat.S_IMODE(saved.stat().st_mode) == stat.S_IMODE(named.stat().st_mode) == 0o640


@pytest.mark.parametrize(
    "content",
    [
        "",
        "a plain answer",
        "data:video/mp4,AAAA",
        "data:video/mp4;base64,",
        "data:video/mp4;base64,A",
        "data:video/mp4;base64,AAAA*",
        "data:video/mp4;base64,AA==AAAA",
        "data:video/mp4;base64,AAAé",
        "data:;base64,AAAA",
    ],
)
def test_a_reply_that_is_no_media_is_a_failure_and_leaves_nothing(tmp_path: Path, content: str) -> None:
    with pytest.raises(FailedError) as caught:
        save_media_reply(content, None, tmp_path, "job")
    assert caught.value.code == "bad_media_reply"
    assert list(tmp_path.iterdir()) == []


@given(st.text() | st.text().map(lambda rest: f"data:video/mp4;base64,{rest}"), st.booleans())
def test_any_reply_is_saved_whole_or_refused(
    tmp_path_factory: pytest.TempPathFactory, content: str, named: bool
) -> None:
    folder = tmp_path_factory.mktemp("replies")
    try:
        saved = save_media_reply(content, Path("x.mp4") if named else None, folder, "job")
    except FailedError:
        assert list(folder.iterdir()) == []
    else:
        assert is_media_reply(content)
        assert base64.b64encode(saved.read_bytes()).decode() == content.partition(",")[2]


@pytest.mark.parametrize("content", [REPLY, "data:video/mp4;codecs=avc1;base64,AAAA"])
def test_media_replies_are_told_from_text(content: str) -> None:
    assert is_media_reply(content)
    assert not is_media_reply(f"see {content}")
    assert not is_media_reply("4")


@pytest.mark.parametrize(("target", "word"), [("gone/out.mp4", "does not exist"), (".", "is a folder")])
def test_a_target_that_cannot_be_is_refused_before_and_after(tmp_path: Path, target: str, word: str) -> None:
    for attempt in (
        lambda: check_output_target(Path(target), tmp_path),
        lambda: save_media_reply(REPLY, Path(target), tmp_path, "job"),
    ):
        with pytest.raises(UsageError) as caught:
            attempt()
        assert word in caught.value.message
        assert "--output" in caught.value.hint
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_refuses_is_told_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.open

    def open_full(path: object, flags: int, mode: int = 0o777) -> int:
        """The temporary file is made as ever; its bytes go to a device that is always full."""
        os.close(real(path, flags, mode))  # type: ignore[arg-type]
        return real("/dev/full", os.O_WRONLY)

    monkeypatch.setattr(os, "open", open_full)
    with pytest.raises(MoorageError) as caught:
        save_media_reply(REPLY, tmp_path / "out.mp4", tmp_path, "job")
    monkeypatch.undo()
    assert caught.value.code == "output_not_written"
    assert "No space left" in caught.value.message
    assert list(tmp_path.iterdir()) == []
