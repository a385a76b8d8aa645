"""A service as a Lepton endpoint: pure, and never with the value of a secret."""

from __future__ import annotations

import json
import re
import uuid
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moorage.errors import PreflightError, UsageError
from moorage.launch.platforms.base import Submission
from moorage.launch.platforms.lepton.spec import (
    credentials_of,
    endpoint_name,
    entry_of,
    is_foreign,
    labels_of,
    manifest_of,
    secret_name,
    secret_prefix,
    wish_of,
    with_key,
)
from tests.contract.platform_contract import make_submission

CANARY = "canary-0123456789"
JOB = "1db93a54-5e1f-4f6a-9c2b-5a1b2c3d4e5f"
NAME = re.compile(r"[a-z]([a-z0-9-]{0,34}[a-z0-9])?")
"""What Lepton takes for the name of an endpoint."""


def submission(**changes: Any) -> Submission:
    return make_submission("lepton", "registry.example/server:1", "serve", **changes)


def manifest(given: Submission | None = None, **options: Any) -> dict[str, Any]:
    wish = wish_of({"resource_shape": "gpu.h100-sxm"} | options)
    return manifest_of(given or submission(), wish, owner="ada", shared_memory_mib=8192, first_check_after_s=1800)


def test_the_endpoint_is_what_was_asked_for() -> None:
    asked = submission(env={"A": "1"}, secret_env={"HF_TOKEN": CANARY})
    made = manifest(asked, node_group="ng-1", replicas=3, scale_to_zero=90.5, token_env="MY_KEY")
    spec = made["spec"]
    assert made["metadata"] == {"id": endpoint_name(asked.job_id), "name": endpoint_name(asked.job_id)}
    assert spec["container"] == {
        "image": "registry.example/server:1",
        "command": ["/bin/sh", "-c", "serve"],
        "ports": [{"container_port": 8080}],
    }
    assert spec["resource_requirement"] == {
        "resource_shape": "gpu.h100-sxm",
        "min_replicas": 3,
        "max_replicas": 3,
        "shared_memory_size": 8192,
        "affinity": {"allowed_dedicated_node_groups": ["ng-1"]},
    }
    assert spec["auto_scaler"] == {"scale_down": {"no_traffic_timeout": 91}}
    assert spec["api_tokens"] == [{"value": "${MY_KEY}"}]
    envs = {env["name"]: env for env in spec["envs"]}
    assert envs["A"] == {"name": "A", "value": "1"}
    reference = {"secret_name_ref": secret_name(asked.job_id, "HF_TOKEN")}
    assert envs["HF_TOKEN"] == {"name": "HF_TOKEN", "value_from": reference}
    assert envs["MOORAGE_JOB_ID"]["value"] == asked.job_id
    assert json.loads(envs["MOORAGE_ENTRY"]["value"]) == asked.label
    assert CANARY not in repr(made)


def test_by_default_it_is_one_replica_for_good() -> None:
    spec = manifest()["spec"]
    assert (spec["resource_requirement"]["min_replicas"], spec["resource_requirement"]["max_replicas"]) == (1, 1)
    assert spec["auto_scaler"] == {"scale_down": {"no_traffic_timeout": 0}}
    assert "affinity" not in spec["resource_requirement"]
    assert spec["api_tokens"] == [{"value": "${MOORAGE_LEPTON_TOKEN}"}]


def test_the_key_and_labels_come_last_and_change_nothing_else() -> None:
    made = manifest()
    before = json.dumps(made)
    sent = with_key(made, CANARY, labels_of(JOB, "ada lovelace!"))
    assert sent["spec"].pop("api_tokens") == [{"value": CANARY}]
    assert sent["metadata"].pop("labels") == {"moorage.job_id": JOB, "moorage.owner": "ada-lovelace"}
    assert json.dumps(made) == before
    assert (sent["metadata"], sent["spec"] | {"api_tokens": made["spec"]["api_tokens"]}) == (
        made["metadata"],
        made["spec"],
    )
    assert "labels" not in with_key(made, CANARY, {})["metadata"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "--resource-shape"),
        ({"resource_shape": " "}, "--resource-shape"),
        ({"resource_shape": "s", "replicas": 0}, "--replicas 0"),
        ({"resource_shape": "s", "replicas": True}, "--replicas"),
        ({"resource_shape": "s", "scale_to_zero": float("nan")}, "--scale-to-zero"),
        ({"resource_shape": "s", "scale_to_zero": 0.0}, "--scale-to-zero"),
        ({"resource_shape": "s", "token_env": CANARY}, "--token-env wants the name"),
        ({"resource_shape": "s", "token_env": "1A"}, "--token-env"),
    ],
)
def test_options_that_cannot_be_are_the_users_to_mend(options: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words) as caught:
        wish_of(options)
    assert CANARY not in caught.value.message


def test_nothing_of_this_machine_is_mounted() -> None:
    with pytest.raises(UsageError, match="/data:/data") as caught:
        wish_of({"resource_shape": "s"}, ["/data:/data"])
    assert "hf_model://" in caught.value.hint


@pytest.mark.parametrize(
    ("environ", "found"),
    [
        ({"LEPTON_WORKSPACE_ID": "w", "LEPTON_AUTH_TOKEN": "t"}, ("w", "t", None)),
        ({"LEPTON_WORKSPACE_ID": "w", "LEPTON_WORKSPACE_TOKEN": "t"}, ("w", "t", None)),
        ({"LEPTON_WORKSPACE_ID": "w:t"}, ("w", "t", None)),
        ({"LEPTON_WORKSPACE_ID": "w:a:b"}, ("w", "a:b", None)),
        ({"LEPTON_WORKSPACE_ID": "w:old", "LEPTON_AUTH_TOKEN": "new"}, ("w", "new", None)),
        ({"LEPTON_WORKSPACE_ID": "w", "LEPTON_AUTH_TOKEN": "w:t"}, ("w", "t", None)),
        ({"LEPTON_AUTH_TOKEN": "w:t"}, ("w", "t", None)),
        ({"LEPTON_WORKSPACE_ID": " w ", "LEPTON_AUTH_TOKEN": "t\n", "LEPTON_WORKSPACE_URL": "http://h/"}, ("w", "t", "http://h")),
    ],
)  # fmt: skip
def test_credentials_come_in_several_forms(environ: dict[str, str], found: tuple[str, str, str | None]) -> None:
    credentials = credentials_of(environ)
    assert (credentials.workspace_id, credentials.token, credentials.url) == found
    assert "token" not in repr(credentials)


@pytest.mark.parametrize(
    ("environ", "missing"),
    [
        ({}, "LEPTON_WORKSPACE_ID and LEPTON_AUTH_TOKEN are"),
        ({"LEPTON_WORKSPACE_ID": "w"}, "LEPTON_AUTH_TOKEN is"),
        ({"LEPTON_WORKSPACE_ID": "w", "LEPTON_AUTH_TOKEN": " "}, "LEPTON_AUTH_TOKEN is"),
        ({"LEPTON_AUTH_TOKEN": "t"}, "LEPTON_WORKSPACE_ID is"),
    ],
)
def test_missing_credentials_are_named(environ: dict[str, str], missing: str) -> None:
    with pytest.raises(PreflightError, match=missing) as caught:
        credentials_of(environ)
    assert caught.value.code == "not_configured"


def test_the_name_holds_the_beginning_of_the_id() -> None:
    assert endpoint_name(JOB) == "moorage-1db93a54-5e1f-4f6a-9c2b"
    assert secret_name(JOB, "HF_TOKEN") == "moorage-1db93a54-5e1f-4f6a-9c2b-hf-token"
    assert NAME.fullmatch(endpoint_name(JOB))


@given(st.uuids(), st.uuids())
def test_names_of_two_services_never_meet(one: uuid.UUID, other: uuid.UUID) -> None:
    if str(one)[:23] != str(other)[:23]:
        assert not secret_name(str(one), "A").startswith(secret_prefix(str(other)))
        assert endpoint_name(str(one)) != endpoint_name(str(other))


@given(st.text(max_size=60))
def test_any_id_of_a_changed_file_gives_a_name_and_no_path(job_id: str) -> None:
    assert re.fullmatch(r"[a-z0-9-]*", endpoint_name(job_id))
    assert re.fullmatch(r"[a-z0-9-]*", secret_name(job_id, "A/../B"))


def test_an_entry_is_rebuilt_from_variables_or_from_labels() -> None:
    made = manifest(submission(secret_env={"HF_TOKEN": CANARY}))
    env = {one["name"]: one["value"] for one in made["spec"]["envs"] if "value" in one}
    name = made["metadata"]["name"]
    entry = entry_of(name, env, {}, owner="ada")
    assert entry is not None
    assert entry | json.loads(env["MOORAGE_ENTRY"]) == entry
    assert (entry["platform_job_id"], entry["platform"]) == (name, "lepton")
    assert not is_foreign(entry)
    bare = entry_of(endpoint_name(JOB), {}, labels_of(JOB, "ada"), owner="ada")
    assert bare == {"job_id": JOB, "platform": "lepton", "platform_job_id": endpoint_name(JOB)}


@pytest.mark.parametrize(
    ("name", "env", "labels"),
    [
        ("somebody-s", {"MOORAGE_JOB_ID": JOB}, {}),
        (endpoint_name(JOB), {}, {}),
        (endpoint_name(JOB), {"MOORAGE_JOB_ID": str(uuid.uuid4())}, {}),
        (endpoint_name(JOB), {"MOORAGE_JOB_ID": JOB, "MOORAGE_OWNER": "bob"}, {}),
        (endpoint_name(JOB), {}, {"moorage.job_id": JOB, "moorage.owner": "bob"}),
    ],
)
def test_what_is_another_s_is_none_of_ours(name: str, env: dict[str, str], labels: dict[str, str]) -> None:
    assert entry_of(name, env, labels, owner="ada") is None


@pytest.mark.parametrize("label", ["", "{", "[]", "null", '"x"'])
def test_a_label_that_cannot_be_read_leaves_the_id(label: str) -> None:
    entry = entry_of(endpoint_name(JOB), {"MOORAGE_JOB_ID": JOB, "MOORAGE_ENTRY": label}, {}, owner="ada")
    assert entry == {"job_id": JOB, "platform": "lepton", "platform_job_id": endpoint_name(JOB)}


def test_another_tool_s_service_has_a_name_of_its_own() -> None:
    assert is_foreign({"job_id": JOB, "platform_job_id": "tao-job-7"})
    assert not is_foreign({"job_id": JOB})
