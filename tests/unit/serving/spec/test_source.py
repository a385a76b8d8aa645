"""What a source may look like, and what its macros stand for."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moorage.serving.spec.faults import Fault
from moorage.serving.spec.source import RepoId, SourcePath, read_source

ROOT = Path("/private")


def read(text: object) -> RepoId | SourcePath | Fault:
    return read_source(text, "alice", ROOT, "/model_source")


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("$HOME", "/private/users/alice"),
        ("$HOME/", "/private/users/alice"),
        ("$HOME/m", "/private/users/alice/m"),
        ("$HOME/common", "/private/users/alice/common"),
        ("$HOME/common/m", "/private/users/alice/common/m"),
        ("$HOME/common/hf", "/private/hf"),
        ("$HOME/common/hf/hub/m", "/private/hf/hub/m"),
        ("$HOME/common/hfx/m", "/private/users/alice/common/hfx/m"),
        ("$HOME/common/hf-x", "/private/users/alice/common/hf-x"),
        ("$HOME/common/datasets", "/private/datasets"),
        ("$HOME/common/datasets/d", "/private/datasets/d"),
        ("$HOME/common/datasets2", "/private/users/alice/common/datasets2"),
        ("$HOME/common/HF/m", "/private/users/alice/common/HF/m"),
        ("$HOME//m/./n/", "/private/users/alice/m/n"),
        ("/private/hf/m", "/private/hf/m"),
        ("//private/hf", "/private/hf"),
        ("/", "/"),
        ("$HOME/模型/é", "/private/users/alice/模型/é"),
        ("$HOME/with space\\", "/private/users/alice/with space\\"),
        ("$HOME/m...x/...", "/private/users/alice/m...x/..."),
    ],
)
def test_paths(text: str, path: str) -> None:
    assert read(text) == SourcePath(path)


@pytest.mark.parametrize("text", ["Qwen/Qwen2.5-0.5B", "a/b", "0/9", "hf/m", "users/alice"])
def test_repo_ids(text: str) -> None:
    assert read(text) == RepoId(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "m",
        "./m",
        "../m",
        "m/",
        "/m/../n",
        "$HOME/..",
        "..",
        "a/..",
        "a/b/c",
        "/private/users/alice/../bob",
        "https://x/y",
        "s3://b/m",
        "hf://a/b",
        "hf_model://a/b",
        "file:///private/hf/m",
        "file:/private/hf",
        "C:/m",
        "~",
        "~/m",
        "~alice/m",
        "$HOME/~",
        "/private/hf/~x",
        "$HOMEX/m",
        "$HOME_/m",
        "${HOME}/m",
        "$home/m",
        "$USER/m",
        "$",
        "/private/$HOME",
        "$HOME/$HOME",
        "$HOME/common/hf/$X",
        " $HOME/m",
        "x$HOME",
        "$HOME\\m",
        "-a/b",
        "a/-b",
        ".a/b",
        "a /b",
        "org/näme",
        "\u0430/b",
        "a/b\n",
        "$HOME/m\n",
        "$HOME/a\x00b",
        "$HOME/a\x7fb",
        "$HOME/a\x85b",
        "$HOME/a\u2028b",
        "$HOME/a\u202eb",
        "$HOME/a\u2066b",
        "\x00",
        "/" + "x/" * 2500,
    ],
)
def test_what_is_refused(text: str) -> None:
    fault = read(text)
    assert isinstance(fault, Fault)
    assert (fault.pointer, fault.status, fault.code) == ("/model_source", 400, "invalid_model_source"), fault.detail


@pytest.mark.parametrize("value", [None, 7, True, 1.5, [], {}, ["$HOME/m"]])
def test_what_is_no_text(value: object) -> None:
    fault = read(value)
    assert isinstance(fault, Fault)
    assert fault.code == "wrong_type"


def test_a_fault_names_the_field_of_an_adapter() -> None:
    fault = read_source("", "alice", ROOT, "/lora/3/source")
    assert isinstance(fault, Fault)
    assert (fault.pointer, fault.code, fault.detail) == ("/lora/3/source", "invalid_source", "source is empty")


pieces = st.sampled_from(
    [
        "$HOME",
        "$HOME/common/hf",
        "$HOME/common/datasets",
        "/",
        "..",
        ".",
        "~",
        "$",
        "{",
        "common",
        "hf",
        "users",
        "bob",
        "alice",
        "a",
        "://",
        "private",
        "\n",
        " ",
        "é",
    ]
)


@given(st.one_of(st.lists(pieces, max_size=8).map("".join), st.text(max_size=40)))
def test_what_comes_out_is_clean(text: str) -> None:
    """A path is absolute and without `..`, `.`, macros and control characters; nothing is raised."""
    found = read(text)
    if isinstance(found, SourcePath):
        path = PurePosixPath(found.text)
        assert path.is_absolute() and str(path) == found.text
        assert not {"..", "."} & set(path.parts)
        assert "$" not in found.text and "~" not in found.text
        assert not any(ord(char) < 32 or ord(char) == 127 for char in found.text)
        if text.startswith("$"):
            assert found.text.startswith(("/private/users/alice", "/private/hf", "/private/datasets"))
    elif isinstance(found, RepoId):
        assert found.text == text and text.count("/") == 1
