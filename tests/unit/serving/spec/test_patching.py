"""Patches: merged, then checked as if the whole had been posted."""

from __future__ import annotations

import json
import shutil
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moorage.serving.spec.checking import check_spec
from moorage.serving.spec.faults import SpecFaults
from moorage.serving.spec.patching import PATCHABLE, merged, patch_spec
from moorage.serving.spec.rules import SpecRules
from moorage.serving.spec.spec import Adapter, Autoscaling, ServingSpec
from tests.unit.serving.spec.platform_root import make_root, rules_of

DOCUMENT = {
    "model_id": "m",
    "model_source": "$HOME/m",
    "num_replicas": 2,
    "engine_kwargs": {"max_model_len": 1024, "limit_mm_per_prompt": {"image": 2, "video": 1}},
    "autoscaling": {"min_replicas": 1, "max_replicas": 4},
}


@pytest.fixture(scope="module")
def rules(tmp_path_factory: pytest.TempPathFactory) -> SpecRules:
    return rules_of(make_root(tmp_path_factory.mktemp("platform")))


@pytest.fixture(scope="module")
def spec(rules: SpecRules) -> ServingSpec:
    return check_spec(DOCUMENT, user_id="alice", rules=rules)


def patched(spec: ServingSpec, patch: dict[str, Any], rules: SpecRules) -> ServingSpec:
    return patch_spec(spec, patch, user_id="alice", rules=rules)


def told(spec: ServingSpec, patch: dict[str, Any], rules: SpecRules) -> set[tuple[str, str, int]]:
    with pytest.raises(SpecFaults) as caught:
        patched(spec, patch, rules)
    assert caught.value.status == min(one.status for one in caught.value.faults)
    return {(one.pointer, one.code, one.status) for one in caught.value.faults}


def test_each_field(spec: ServingSpec, rules: SpecRules) -> None:
    assert patched(spec, {"num_replicas": 3}, rules).num_replicas == 3
    assert patched(spec, {"gpus_per_replica": 2}, rules).gpus_per_replica == 2
    assert patched(spec, {"ttl_s": 60}, rules).ttl_s == 60
    assert patched(spec, {"ttl_s": None}, rules).ttl_s is None
    assert patched(spec, {"autoscaling": None}, rules).autoscaling is None
    assert patched(spec, {"autoscaling": {"max_replicas": 9}}, rules).autoscaling == Autoscaling(
        min_replicas=1, max_replicas=9
    )
    assert patched(spec, {"lora": [{"name": "a", "source": "org/a"}]}, rules).lora == (
        Adapter(name="a", source="org/a"),
    )


def test_kwargs_are_merged_and_null_takes_one_away(spec: ServingSpec, rules: SpecRules) -> None:
    more = patched(spec, {"engine_kwargs": {"seed": 7}}, rules)
    assert more.engine_kwargs == {**DOCUMENT["engine_kwargs"], "seed": 7}  # type: ignore[dict-item]
    less = patched(spec, {"engine_kwargs": {"max_model_len": None, "limit_mm_per_prompt": {"video": None}}}, rules)
    assert less.engine_kwargs == {"limit_mm_per_prompt": {"image": 2}}
    # The spec that was patched is as it was.
    assert spec.engine_kwargs == DOCUMENT["engine_kwargs"]


@pytest.mark.parametrize(
    "patch",
    [
        {"num_replicas": 2},
        {"engine_kwargs": {}},
        {"engine_kwargs": {"seed": None}},
        {"engine_kwargs": {"max_model_len": 1024}},
        {"autoscaling": {}},
        {"ttl_s": None, "lora": []},
    ],
)
def test_what_changes_nothing(patch: dict[str, Any], spec: ServingSpec, rules: SpecRules) -> None:
    assert patched(spec, patch, rules) == spec


@pytest.mark.parametrize(
    ("patch", "faults"),
    [
        ({}, {("", "empty_patch", 400)}),
        ({"model_id": "other"}, {("/model_id", "not_patchable", 400)}),
        ({"model_id": "m"}, {("/model_id", "not_patchable", 400)}),
        ({"model_source": "$HOME/m"}, {("/model_source", "not_patchable", 400)}),
        ({"bogus": 1}, {("/bogus", "unknown_field", 400)}),
        ({"accelerator_type": "H20"}, {("/accelerator_type", "unknown_field", 400)}),
        ({"num_replicas": 0}, {("/num_replicas", "out_of_range", 422)}),
        ({"num_replicas": None}, {("/num_replicas", "wrong_type", 400)}),
        ({"num_replicas": "2"}, {("/num_replicas", "wrong_type", 400)}),
        ({"engine_kwargs": None}, {("/engine_kwargs", "wrong_type", 400)}),
        ({"engine_kwargs": {"bogus": 1}}, {("/engine_kwargs/bogus", "engine_kwarg_unknown", 400)}),
        ({"engine_kwargs": {"port": 1}}, {("/engine_kwargs/port", "engine_kwarg_denied", 400)}),
        ({"autoscaling": {"min_replicas": None}}, {("/autoscaling/min_replicas", "missing_field", 400)}),
        ({"lora": None}, {("/lora", "wrong_type", 400)}),
        ({"lora": [{"name": "a", "source": "/etc"}]}, {("/lora/0/source", "model_source_forbidden", 403)}),
        (
            {"model_id": "x", "num_replicas": 0, "engine_kwargs": {"bogus": 1}},
            {
                ("/model_id", "not_patchable", 400),
                ("/num_replicas", "out_of_range", 422),
                ("/engine_kwargs/bogus", "engine_kwarg_unknown", 400),
            },
        ),
    ],
)
def test_faults(patch: dict[str, Any], faults: set[Any], spec: ServingSpec, rules: SpecRules) -> None:
    assert told(spec, patch, rules) == faults


def test_a_model_whose_files_are_gone_can_be_scaled_down(rules: SpecRules) -> None:
    folder = rules.root / "users/alice/short-lived"
    folder.mkdir()
    spec = check_spec({**DOCUMENT, "model_source": "$HOME/short-lived"}, user_id="alice", rules=rules)
    shutil.rmtree(folder)
    assert patched(spec, {"num_replicas": 1}, rules).num_replicas == 1
    folder.symlink_to("../bob")
    assert told(spec, {"num_replicas": 1}, rules) == {("/model_source", "model_source_forbidden", 403)}


values = st.one_of(
    st.none(),
    st.integers(-2, 2000),
    st.sampled_from(["2", "auto", True, 1.5, [], {}, "org/a"]),
    st.fixed_dictionaries(
        {}, optional={"min_replicas": st.none() | st.integers(0, 5), "max_replicas": st.integers(0, 5)}
    ),
    st.dictionaries(
        st.sampled_from(["max_model_len", "seed", "dtype", "bogus", "model", "limit_mm_per_prompt"]),
        st.none()
        | st.integers(-2, 9)
        | st.just("auto")
        | st.dictionaries(st.sampled_from(["image"]), st.integers(0, 2)),
    ),
    st.just([{"name": "a", "source": "org/a"}]),
)
patches = st.dictionaries(st.sampled_from(PATCHABLE), values, min_size=1)


def outcome(check: Any) -> Any:
    try:
        return check()
    except SpecFaults as fault:
        return fault.status, [one.as_dict() for one in fault.faults]


@given(patches)
def test_a_patch_is_checked_as_the_whole_would_be(rules: SpecRules, spec: ServingSpec, patch: dict[str, Any]) -> None:
    whole = merged(spec.to_dict(), patch)
    by_patch = outcome(lambda: patch_spec(spec, patch, user_id="alice", rules=rules))
    assert by_patch == outcome(lambda: check_spec(whole, user_id="alice", rules=rules))
    if isinstance(by_patch, ServingSpec):
        assert patch_spec(by_patch, patch, user_id="alice", rules=rules) == by_patch


trees = st.recursive(
    st.none() | st.integers(0, 3) | st.just("x"),
    lambda inside: st.dictionaries(st.sampled_from("abc"), inside, max_size=3) | st.lists(inside, max_size=2),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from("abc"), trees), st.dictionaries(st.sampled_from("abc"), trees))
def test_below_the_first_level_it_is_rfc_7396(target: dict[str, Any], patch: dict[str, Any]) -> None:
    whole = merged({"f": target}, {"f": patch})["f"]
    assert whole == by_the_rfc(json.loads(json.dumps(target)), patch)


def by_the_rfc(target: Any, patch: Any) -> Any:
    """The pseudocode of the RFC, word for word."""
    if isinstance(patch, dict):
        if not isinstance(target, dict):
            target = {}
        for name, value in patch.items():
            if value is None:
                if name in target:
                    del target[name]
            else:
                target[name] = by_the_rfc(target.get(name), value)
        return target
    return patch
