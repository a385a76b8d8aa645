"""Specs: what is accepted, and every fault of the others at once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moorage.serving.spec.checking import check_spec
from moorage.serving.spec.document import read_document
from moorage.serving.spec.faults import MOST_FAULTS, SpecError, SpecFaults
from moorage.serving.spec.rules import Limits, SpecRules
from moorage.serving.spec.spec import Adapter, Autoscaling, ServingSpec
from moorage.serving.spec.written import spec_yaml
from tests.unit.serving.spec.platform_root import make_root, rules_of

LEAST = {"model_id": "m", "model_source": "$HOME/m"}


@pytest.fixture(scope="module")
def rules(tmp_path_factory: pytest.TempPathFactory) -> SpecRules:
    return rules_of(make_root(tmp_path_factory.mktemp("platform")))


def check(document: dict[str, Any], rules: SpecRules) -> ServingSpec:
    return check_spec(document, user_id="alice", rules=rules)


def faults_of(document: dict[str, Any], rules: SpecRules) -> SpecFaults:
    with pytest.raises(SpecFaults) as caught:
        check(document, rules)
    return caught.value


def told(fault: SpecFaults) -> set[tuple[str, str, int]]:
    return {(one.pointer, one.code, one.status) for one in fault.faults}


def test_what_is_left_out_has_its_default(rules: SpecRules) -> None:
    assert check(LEAST, rules) == ServingSpec(model_id="m", model_source=f"{rules.root}/users/alice/m")


def test_every_field(rules: SpecRules) -> None:
    document = {
        "model_id": "qwen-0.5b",
        "model_source": "org/name",
        "num_replicas": 2,
        "gpus_per_replica": 4,
        "engine_kwargs": {"max_model_len": 8192, "gpu_memory_utilization": 0.9, "tensor_parallel_size": 4},
        "ttl_s": 3600,
        "autoscaling": {"min_replicas": 1, "max_replicas": 8},
        "lora": [{"name": "a1", "source": "$HOME/common/hf/m"}, {"name": "a2", "source": "org/adapter"}],
    }
    spec = check(document, rules)
    assert spec == ServingSpec(
        model_id="qwen-0.5b",
        model_source="org/name",
        num_replicas=2,
        gpus_per_replica=4,
        engine_kwargs={"max_model_len": 8192, "gpu_memory_utilization": 0.9, "tensor_parallel_size": 4},
        ttl_s=3600,
        autoscaling=Autoscaling(min_replicas=1, max_replicas=8),
        lora=(Adapter(name="a1", source=f"{rules.root}/hf/m"), Adapter(name="a2", source="org/adapter")),
    )
    assert spec.total_gpus == 8
    assert read_document(spec_yaml(spec).encode(), None) == spec.to_dict()


FAULTS: list[tuple[dict[str, Any], str, str, int]] = [
    ({"model_id": 7}, "/model_id", "wrong_type", 400),
    ({"model_id": True}, "/model_id", "wrong_type", 400),
    ({"model_id": None}, "/model_id", "wrong_type", 400),
    ({"model_id": ["m"]}, "/model_id", "wrong_type", 400),
    ({"model_id": ""}, "/model_id", "invalid_model_id", 400),
    ({"model_id": "a/b"}, "/model_id", "invalid_model_id", 400),
    ({"model_id": "é"}, "/model_id", "invalid_model_id", 400),
    ({"model_id": "\u0430lice"}, "/model_id", "invalid_model_id", 400),
    ({"model_id": "a" * 64}, "/model_id", "invalid_model_id", 400),
    ({"model_source": None}, "/model_source", "wrong_type", 400),
    ({"model_source": 7}, "/model_source", "wrong_type", 400),
    ({"model_source": ""}, "/model_source", "invalid_model_source", 400),
    ({"model_source": "$HOME/../bob"}, "/model_source", "invalid_model_source", 400),
    ({"model_source": "$HOME/none"}, "/model_source", "model_source_not_found", 400),
    ({"model_source": "$HOME/common/datasets/d"}, "/model_source", "model_source_forbidden", 403),
    ({"model_source": "/etc"}, "/model_source", "model_source_forbidden", 403),
    ({"num_replicas": "2"}, "/num_replicas", "wrong_type", 400),
    ({"num_replicas": 1.5}, "/num_replicas", "wrong_type", 400),
    ({"num_replicas": 2.0}, "/num_replicas", "wrong_type", 400),
    ({"num_replicas": True}, "/num_replicas", "wrong_type", 400),
    ({"num_replicas": None}, "/num_replicas", "wrong_type", 400),
    ({"num_replicas": 0}, "/num_replicas", "out_of_range", 422),
    ({"num_replicas": -1}, "/num_replicas", "out_of_range", 422),
    ({"num_replicas": 1025}, "/num_replicas", "out_of_range", 422),
    ({"num_replicas": 10**3000}, "/num_replicas", "out_of_range", 422),
    ({"gpus_per_replica": "1"}, "/gpus_per_replica", "wrong_type", 400),
    ({"gpus_per_replica": 0}, "/gpus_per_replica", "out_of_range", 422),
    ({"gpus_per_replica": 65}, "/gpus_per_replica", "out_of_range", 422),
    ({"engine_kwargs": None}, "/engine_kwargs", "wrong_type", 400),
    ({"engine_kwargs": []}, "/engine_kwargs", "wrong_type", 400),
    ({"engine_kwargs": {"bogus": 1}}, "/engine_kwargs/bogus", "engine_kwarg_unknown", 400),
    ({"engine_kwargs": {"a/b~c": 1}}, "/engine_kwargs/a~1b~0c", "engine_kwarg_unknown", 400),
    ({"engine_kwargs": {"": 1}}, "/engine_kwargs/", "engine_kwarg_unknown", 400),
    ({"engine_kwargs": {"model": "x"}}, "/engine_kwargs/model", "engine_kwarg_denied", 400),
    ({"engine_kwargs": {"trust_remote_code": False}}, "/engine_kwargs/trust_remote_code", "engine_kwarg_denied", 400),
    ({"engine_kwargs": {"max_model_len": "abc"}}, "/engine_kwargs/max_model_len", "wrong_type", 400),
    ({"engine_kwargs": {"max_model_len": None}}, "/engine_kwargs/max_model_len", "wrong_type", 400),
    ({"engine_kwargs": {"max_model_len": True}}, "/engine_kwargs/max_model_len", "wrong_type", 400),
    ({"engine_kwargs": {"max_model_len": 2**63}}, "/engine_kwargs/max_model_len", "wrong_type", 400),
    ({"engine_kwargs": {"max_model_len": 0}}, "/engine_kwargs/max_model_len", "out_of_range", 400),
    ({"engine_kwargs": {"gpu_memory_utilization": 0}}, "/engine_kwargs/gpu_memory_utilization", "out_of_range", 400),
    ({"engine_kwargs": {"gpu_memory_utilization": 1.01}}, "/engine_kwargs/gpu_memory_utilization", "out_of_range", 400),
    ({"engine_kwargs": {"dtype": "int3"}}, "/engine_kwargs/dtype", "wrong_type", 400),
    ({"engine_kwargs": {"tensor_parallel_size": 2}}, "/engine_kwargs", "parallel_size_mismatch", 400),
    (
        {"engine_kwargs": {"tensor_parallel_size": 2, "pipeline_parallel_size": 2}, "gpus_per_replica": 2},
        "/engine_kwargs",
        "parallel_size_mismatch",
        400,
    ),
    (
        {"engine_kwargs": {"pipeline_parallel_size": 3}, "gpus_per_replica": 4},
        "/engine_kwargs",
        "parallel_size_mismatch",
        400,
    ),
    ({"ttl_s": "1h"}, "/ttl_s", "wrong_type", 400),
    ({"ttl_s": False}, "/ttl_s", "wrong_type", 400),
    ({"ttl_s": 0}, "/ttl_s", "out_of_range", 400),
    ({"ttl_s": -1.5}, "/ttl_s", "out_of_range", 400),
    ({"ttl_s": 1e300}, "/ttl_s", "out_of_range", 400),
    ({"autoscaling": True}, "/autoscaling", "wrong_type", 400),
    ({"autoscaling": {"min_replicas": 1}}, "/autoscaling/max_replicas", "missing_field", 400),
    ({"autoscaling": {"min_replicas": 1, "max_replicas": "2"}}, "/autoscaling/max_replicas", "wrong_type", 400),
    ({"autoscaling": {"min_replicas": 0, "max_replicas": 2}}, "/autoscaling/min_replicas", "out_of_range", 422),
    ({"autoscaling": {"min_replicas": 3, "max_replicas": 2}}, "/autoscaling", "invalid_autoscaling", 400),
    ({"autoscaling": {"min_replicas": 1, "max_replicas": 2, "x": 1}}, "/autoscaling/x", "unknown_field", 400),
    ({"lora": None}, "/lora", "wrong_type", 400),
    ({"lora": {}}, "/lora", "wrong_type", 400),
    ({"lora": ["a"]}, "/lora/0", "wrong_type", 400),
    ({"lora": [{"source": "org/a"}]}, "/lora/0/name", "missing_field", 400),
    ({"lora": [{"name": "a"}]}, "/lora/0/source", "missing_field", 400),
    ({"lora": [{"name": 7, "source": "org/a"}]}, "/lora/0/name", "wrong_type", 400),
    ({"lora": [{"name": "a b", "source": "org/a"}]}, "/lora/0/name", "invalid_name", 400),
    ({"lora": [{"name": "a", "source": "s3://b"}]}, "/lora/0/source", "invalid_source", 400),
    ({"lora": [{"name": "a", "source": "$HOME/none"}]}, "/lora/0/source", "model_source_not_found", 400),
    ({"lora": [{"name": "a", "source": "/etc"}]}, "/lora/0/source", "model_source_forbidden", 403),
    ({"lora": [{"name": "a", "source": "org/a", "rank": 8}]}, "/lora/0/rank", "unknown_field", 400),
    ({"lora": [{"name": "a", "source": "org/a"}] * 2}, "/lora/1/name", "duplicate_name", 400),
    ({"lora": [{"name": f"a{n}", "source": "org/a"} for n in range(65)]}, "/lora", "out_of_range", 400),
    ({"accelerator_type": "H20"}, "/accelerator_type", "unknown_field", 400),
    ({"Model_id": "m"}, "/Model_id", "unknown_field", 400),
]


@pytest.mark.parametrize(("change", "pointer", "code", "status"), FAULTS)
def test_one_fault(change: dict[str, Any], pointer: str, code: str, status: int, rules: SpecRules) -> None:
    fault = faults_of({**LEAST, **change}, rules)
    assert told(fault) == {(pointer, code, status)}
    assert (fault.status, fault.code) == (status, code)
    assert fault.message


@pytest.mark.parametrize(
    ("gpus", "sizes"),
    [
        (1, {"tensor_parallel_size": 1}),
        (4, {"tensor_parallel_size": 4}),
        (4, {"tensor_parallel_size": 2, "pipeline_parallel_size": 2}),
        (4, {"pipeline_parallel_size": 2}),
        (8, {}),
    ],
)
def test_parallel_sizes_that_fit(gpus: int, sizes: dict[str, int], rules: SpecRules) -> None:
    assert check({**LEAST, "gpus_per_replica": gpus, "engine_kwargs": sizes}, rules).total_gpus == gpus


@pytest.mark.parametrize("name", LEAST)
def test_what_must_be_there(name: str, rules: SpecRules) -> None:
    fault = faults_of({key: value for key, value in LEAST.items() if key != name}, rules)
    assert told(fault) == {(f"/{name}", "missing_field", 400)}


def test_all_faults_at_once_and_the_first_of_their_kinds(rules: SpecRules) -> None:
    document = {"model_id": "m", "model_source": "/etc", "num_replicas": 0, "gpus_per_replica": 99}
    fault = faults_of(document, rules)
    assert fault.status == 403
    assert told(fault) == {
        ("/model_source", "model_source_forbidden", 403),
        ("/num_replicas", "out_of_range", 422),
        ("/gpus_per_replica", "out_of_range", 422),
    }
    worse = faults_of({**document, "bogus": 1, "engine_kwargs": {"bogus": 1}}, rules)
    assert (worse.status, worse.code, len(worse.faults)) == (400, "invalid_spec", 5)
    assert faults_of({**LEAST, "num_replicas": 0, "gpus_per_replica": 0}, rules).status == 422


def test_words_that_are_not_clear_have_their_place(rules: SpecRules) -> None:
    body = (
        b"model_id: yes\nmodel_source: 2026-01-06\nnum_replicas: 012\nengine_kwargs: {enforce_eager: on, seed: .nan}\n"
    )
    fault = faults_of(read_document(body, None), rules)
    assert told(fault) == {
        (place, "unclear_value", 400)
        for place in (
            "/model_id",
            "/model_source",
            "/num_replicas",
            "/engine_kwargs/enforce_eager",
            "/engine_kwargs/seed",
        )
    }


def test_forbidden_is_the_same_whether_it_is_there(rules: SpecRules) -> None:
    root = rules.root
    answers = []
    (root / "users/alice/link").symlink_to("../bob/secret/deep")
    for is_there in (False, True):
        if is_there:
            (root / "users/bob/secret/deep").mkdir()
        fault = faults_of({**LEAST, "model_source": "$HOME/link"}, rules)
        direct = faults_of({**LEAST, "model_source": f"{root}/users/bob/secret/deep"}, rules)
        answers.append([fault.status, fault.message, *(one.as_dict() for one in (*fault.faults, *direct.faults))])
    assert answers[0] == answers[1]
    assert answers[0][0] == 403


def test_what_is_not_there_is_named(rules: SpecRules) -> None:
    fault = faults_of({**LEAST, "model_source": "$HOME/common/hf/none"}, rules)
    assert f"{rules.root}/hf/none" in fault.message


def test_limits_of_the_platform(rules: SpecRules) -> None:
    small = rules_of(rules.root, limits=Limits(replicas=2, gpus_per_replica=1))
    assert check({**LEAST, "num_replicas": 2}, small).num_replicas == 2
    scaled = {"autoscaling": {"min_replicas": 1, "max_replicas": 3}}
    fault = faults_of({**LEAST, "num_replicas": 3, "gpus_per_replica": 2, **scaled}, small)
    assert {one.pointer for one in fault.faults} == {"/num_replicas", "/gpus_per_replica", "/autoscaling/max_replicas"}
    assert fault.status == 422


def test_a_backend_without_lora(rules: SpecRules) -> None:
    without = rules_of(rules.root, has_lora=False)
    document = {**LEAST, "lora": [{"name": "a", "source": "org/a"}]}
    assert told(faults_of(document, without)) == {("/lora", "backend_has_no_lora", 400)}
    assert check({**LEAST, "lora": []}, without).lora == ()


def test_a_backend_that_follows_no_load_has_no_autoscaling(rules: SpecRules) -> None:
    document = {**LEAST, "autoscaling": {"min_replicas": 1, "max_replicas": 2}}
    without = rules_of(rules.root, has_autoscaling=False)
    assert check(document, rules).autoscaling is not None
    assert told(faults_of(document, without)) == {("/autoscaling", "backend_has_no_autoscaling", 400)}


@pytest.mark.parametrize(
    ("kwargs", "code"),
    [
        ({"ignore_patterns": []}, "engine_kwarg_no_flag"),
        ({"mm_processor_cache_type": None}, "engine_kwarg_no_flag"),
        ({"enable_mm_processor_stats": True}, "engine_kwarg_denied"),  # told once
        ({"lora_dtype": 7}, "wrong_type"),
    ],
)
def test_what_a_command_line_cannot_say_is_told(rules: SpecRules, kwargs: dict[str, object], code: str) -> None:
    by_words = rules_of(rules.root, by_command_line=True)
    (name,) = kwargs
    assert told(faults_of({**LEAST, "engine_kwargs": kwargs}, by_words)) == {(f"/engine_kwargs/{name}", code, 400)}
    if code == "engine_kwarg_no_flag":
        assert check({**LEAST, "engine_kwargs": kwargs}, rules).engine_kwargs == kwargs
    sayable = {"disable_log_stats": False, "ignore_patterns": ["a"]}
    assert check({**LEAST, "engine_kwargs": sayable}, by_words).engine_kwargs == sayable


def test_a_body_full_of_faults_has_an_answer_of_bounded_size(rules: SpecRules) -> None:
    fault = faults_of({f"k{number}": number for number in range(5000)}, rules)
    assert len(fault.faults) == MOST_FAULTS
    assert "more faults" in fault.faults[-1].detail
    # The worst of them decide, also when they are not the first.
    many = {**LEAST, "lora": [{"name": "a", "source": "/etc"}], **{f"k{number}": 1 for number in range(2000)}}
    assert faults_of(many, rules).status == 400


def test_a_long_value_is_shown_in_short(rules: SpecRules) -> None:
    fault = faults_of({**LEAST, "model_id": "x" * 100_000}, rules)
    assert len(fault.message) < 500


def test_sources_that_were_accepted_before_may_be_gone_but_not_lead_out(rules: SpecRules) -> None:
    document = {**LEAST, "model_source": "$HOME/gone"}
    assert check_spec(document, user_id="alice", rules=rules, settled=("model_source",)).model_source.endswith("/gone")
    with pytest.raises(SpecFaults):
        check_spec({**LEAST, "model_source": "/etc"}, user_id="alice", rules=rules, settled=("model_source",))


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inside: st.lists(inside, max_size=3) | st.dictionaries(st.text(max_size=8), inside, max_size=3),
    max_leaves=6,
)
names = st.sampled_from(
    ["model_id", "model_source", "num_replicas", "gpus_per_replica", "ttl_s", "autoscaling", "lora"]
)
good = st.sampled_from(["m", "$HOME/m", "org/name", 1, 2, {}, [], None, {"min_replicas": 1, "max_replicas": 2}])
kwargs = st.dictionaries(st.sampled_from(["max_model_len", "dtype", "seed", "model", "bogus"]), anything, max_size=3)


@given(st.dictionaries(names | st.text(max_size=5), good | anything, max_size=8), kwargs | anything)
def test_any_document_gives_a_spec_or_faults(rules: SpecRules, document: dict[str, Any], kwargs: Any) -> None:
    text = json.dumps({**document, "engine_kwargs": kwargs})
    try:
        read = read_document(text.encode(), "application/json")
        spec = check(read, rules)
    except SpecError:
        return
    except SpecFaults as fault:
        assert fault.status in (400, 403, 422)
        assert fault.status == min(one.status for one in fault.faults)
        assert json.dumps([one.as_dict() for one in fault.faults]).encode()
        return
    # What was accepted is accepted again as it is shown, and is the same.
    again = check(read_document(spec_yaml(spec).encode(), None), rules)
    assert again == spec == ServingSpec.from_dict(json.loads(json.dumps(spec.to_dict())))
    assert again.build() == spec.build()
    assert Path(spec.model_source).is_relative_to(rules.root) or spec.model_source.count("/") == 1
