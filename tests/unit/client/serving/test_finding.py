"""A model is found by any of its names; what fits several is never chosen."""

from __future__ import annotations

import pytest

from moorage.client.serving.finding import is_key, meant
from moorage.errors import AmbiguousError, NotFoundError
from tests.unit.client.serving.made import model

MODELS = [model("qwen"), model("llama"), model("qwen", user="bob")]


@pytest.mark.parametrize("name", ["llama", "alice/llama", "alice-202601061235-llama", "svc-alice-20260106-123500-labc"])
def test_by_every_name(name: str) -> None:
    assert meant(name, MODELS) is MODELS[1]


def test_several() -> None:
    with pytest.raises(AmbiguousError) as told:
        meant("qwen", MODELS)
    assert told.value.exit_status == 4
    assert told.value.data is not None
    assert [one["model_alias"] for one in told.value.data["candidates"]] == ["alice/qwen", "bob/qwen"]
    assert meant("bob/qwen", MODELS) is MODELS[2]


def test_a_suffix_that_is_another_models_dated_name() -> None:
    with pytest.raises(AmbiguousError):
        meant("alice-202601061235-qwen", [*MODELS, model("alice-202601061235-qwen")])


@pytest.mark.parametrize("name", ["qwe", "", "/", "QWEN", "alice/", "alice"])
def test_none(name: str) -> None:
    with pytest.raises(NotFoundError) as told:
        meant(name, MODELS)
    assert told.value.exit_status == 3
    assert repr(name) in told.value.message


def test_the_nearest_is_named() -> None:
    with pytest.raises(NotFoundError) as told:
        meant("lama", MODELS)
    assert told.value.hint == "did you mean llama?"


def test_keys() -> None:
    assert is_key("svc-alice-20260106-123500-labc")
    assert not any(map(is_key, ("alice/llama", "llama", "svc-x", "svc-a/b-c-d-e")))
