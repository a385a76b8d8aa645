from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moorage.catalog.model_path import parse_model_path
from moorage.catalog.mounts import Mount, parse_mount, unmounted_warning
from moorage.errors import UsageError


@pytest.mark.parametrize(
    ("text", "mount"),
    [
        ("/data:/models", Mount("/data", "/models", False)),
        ("/data/m:/models/m:ro", Mount("/data/m", "/models/m", True)),
        ("/with space/é:/m n", Mount("/with space/é", "/m n", False)),
        ("/a:b:/models", Mount("/a:b", "/models", False)),
        ("/run/c:ro:/models:ro", Mount("/run/c:ro", "/models", True)),
        ("/:/host:ro", Mount("/", "/host", True)),
    ],
)
def test_mounts_are_read_and_written_back(text: str, mount: Mount) -> None:
    assert parse_mount(text) == mount
    assert mount.text == text


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "absolute"),
        ("/data", "absolute"),
        ("data:/models", "absolute"),
        ("/data:models", "absolute"),
        (":/models", "absolute"),
        ("/data:", "absolute"),
        ("/data:ro", "absolute"),
        ("/data:/models:rw", "'rw'"),
        ("/data:/models:ro,z", "'ro,z'"),
        ("/a:/b:/c", "more than one place"),
        ("/a/../b:/m", "'..'"),
        ("/a:/m/..", "'..'"),
        ("/a:/", "root"),
        ("/a:/.", "root"),
        ("/a\x00:/m", "character"),
        ("/a\udcff:/m", "character"),
    ],
)
def test_bad_mounts_are_refused_with_the_reason(text: str, reason: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_mount(text)
    assert caught.value.code == "bad_mount"
    assert reason in caught.value.message
    assert "--mount /data/models:/models:ro" in caught.value.hint


@given(st.text(st.characters(codec=None, exclude_categories=()) | st.sampled_from("/:.ro")))
def test_any_text_is_a_mount_of_two_good_paths_or_refused(text: str) -> None:
    try:
        mount = parse_mount(text)
    except UsageError as fault:
        fault.message.encode()
        return
    assert mount.text == text
    assert mount.source.startswith("/")
    assert mount.target.startswith("/")
    assert ":" not in mount.target
    assert ".." not in mount.target.split("/") + mount.source.split("/")


@pytest.mark.parametrize(
    ("path", "mounts", "exists", "warned"),
    [
        ("/models/m", [], True, True),
        ("/models/m", [], False, False),
        ("/models/m", ["/data:/models"], True, False),
        ("/models/m", ["/data:/models/m:ro"], True, False),
        ("/models/m", ["/data:/models/./m/"], True, False),
        ("/models/m", ["/models/m:/elsewhere"], True, True),
        ("/models/more", ["/data:/models/m"], True, True),
        ("/models", ["/data:/models/m"], True, True),
        ("/models/m", ["/x:/x", "/data:/models"], True, False),
        ("hf_model://a/b", [], True, False),
    ],
)
def test_a_path_of_this_machine_without_a_mount_is_warned_about(
    path: str, mounts: list[str], exists: bool, warned: bool
) -> None:
    warning = unmounted_warning(parse_model_path(path), map(parse_mount, mounts), exists)
    assert (warning is not None) == warned
    assert warning is None or ("--mount" in warning and path in warning)
