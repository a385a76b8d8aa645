"""Brev's instances: what the command prints, which one a service gets, and the words that create one."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moorage.errors import AmbiguousError, FailedError, NotFoundError, UsageError
from moorage.launch.platforms.brev.instances import (
    Choice,
    Instance,
    check_options,
    choose,
    create_words,
    find_named,
    own_name,
    parse_listing,
    standing_of,
)

JOB_ID = "0c1d2e3f-0000-4000-8000-000000000000"
NEW_HELP = "Flags:\n  -d, --detached   Don't wait\n  -g, --gpu-name string\n  -t, --type string   Comma-separated"
OLD_HELP = "  -g, --gpu string\n      --cloud-cred-id string\n      --workspace-group-id string\n  -d, --detached"


def instance(name: str = "box", status: str = "RUNNING", build: str = "COMPLETED", kind: str = "cpu") -> Instance:
    return Instance(name, f"id-{name}", status, build, kind)


def row(**changes: Any) -> dict[str, Any]:
    told = {"name": "box", "id": "abc", "status": "RUNNING", "build_status": "COMPLETED", "shell_status": "READY"}
    return told | {"health_status": "", "instance_type": "g5.xlarge", "instance_kind": "gpu", "gpu": "A10G"} | changes


def test_a_listing_is_read():
    found = parse_listing(json.dumps({"workspaces": [row()]}, indent=2))
    assert found == [Instance("box", "abc", "RUNNING", "COMPLETED", "g5.xlarge")]


def test_null_is_none_at_all():
    assert parse_listing('{\n  "workspaces": null\n}\n') == []


@pytest.mark.parametrize(
    "around",
    [
        "A new version of brev has been released! {0.6.400}\n%s",
        '\x1b[33mnotice\x1b[0m {"note": "no listing"}\n%s\nbox\n',
        "Warning: no home%s",
    ],
)
def test_notices_around_it_are_passed_over(around: str):
    assert [one.name for one in parse_listing(around % json.dumps({"workspaces": [row()]}))] == ["box"]


@pytest.mark.parametrize("text", ["", "box\n", "[]", "{", '{"nodes": []}', "You are currently logged out [Y/n]: "])
def test_what_is_no_listing_is_told(text: str):
    with pytest.raises(ValueError, match="no list of instances"):
        parse_listing(text)


@given(st.lists(st.dictionaries(st.sampled_from(sorted(row())), st.none() | st.text() | st.integers())))
def test_rows_of_other_releases_do_no_harm(rows: list[dict[str, Any]]):
    for one in parse_listing(json.dumps({"workspaces": rows})):
        assert one.name
        assert one.id
        assert standing_of(one)


@pytest.mark.parametrize(
    ("status", "build", "standing"),
    [
        ("RUNNING", "COMPLETED", "up"),
        ("RUNNING", "", "up"),
        ("RUNNING", "BUILDING", "coming"),
        ("RUNNING", "PENDING", "coming"),
        ("RUNNING", "CREATE_FAILED", "failed"),
        ("DEPLOYING", "", "coming"),
        ("STARTING", "COMPLETED", "coming"),
        ("UNHEALTHY", "COMPLETED", "unwell"),
        ("STOPPING", "COMPLETED", "off"),
        ("STOPPED", "COMPLETED", "off"),
        ("DELETING", "COMPLETED", "gone"),
        ("FAILURE", "COMPLETED", "failed"),
        ("A_NEW_WORD", "", "coming"),
    ],
)
def test_what_a_status_means(status: str, build: str, standing: str):
    assert standing_of(instance(status=status, build=build)) == standing


def test_none_is_gone():
    assert standing_of(None) == "gone"


class TestChoose:
    def test_the_only_one_that_runs(self):
        assert choose([instance("off", "STOPPED"), instance("on")], {}, JOB_ID) == Choice("on", "up", False)

    def test_also_while_it_builds(self):
        assert choose([instance(build="BUILDING")], {}, JOB_ID) == Choice("box", "coming", False)

    def test_several_are_named(self):
        with pytest.raises(AmbiguousError) as caught:
            choose([instance("one"), instance("two")], {}, JOB_ID)
        assert "one, two" in caught.value.message
        assert [found["name"] for found in caught.value.data["candidates"]] == ["one", "two"]

    def test_a_type_chooses_among_them(self):
        there = [instance("one"), instance("two", kind="h100")]
        assert choose(there, {"instance_type": "h100"}, JOB_ID) == Choice("two", "up", False)

    def test_none_of_that_type_is_a_new_one(self):
        found = choose([instance("one")], {"instance_type": "h100"}, JOB_ID)
        assert found == Choice("moorage-0c1d2e3f", "new", True)

    def test_none_at_all_needs_a_type(self):
        with pytest.raises(UsageError) as caught:
            choose([instance("off", "STOPPED")], {}, JOB_ID)
        assert "--instance-type" in caught.value.message
        assert "off (STOPPED, build COMPLETED)" in caught.value.hint

    @pytest.mark.parametrize("wanted", ["two", "id-two"])
    def test_by_name_or_id(self, wanted: str):
        there = [instance("one"), instance("two")]
        assert choose(there, {"instance_id": wanted}, JOB_ID) == Choice("two", "up", False)

    def test_a_stopped_one_only_by_name(self):
        assert choose([instance("off", "STOPPED")], {"instance_id": "off"}, JOB_ID) == Choice("off", "off", False)

    def test_an_unhealthy_one_only_by_name(self):
        ill = instance("ill", "UNHEALTHY")
        assert choose([ill], {"instance_id": "ill"}, JOB_ID) == Choice("ill", "unwell", False)
        with pytest.raises(UsageError):
            choose([ill], {}, JOB_ID)

    @pytest.mark.parametrize("there", [[], [instance("other")], [instance("gone", "DELETING")]])
    def test_a_name_that_is_not_there(self, there: list[Instance]):
        with pytest.raises(NotFoundError) as caught:
            choose(there, {"instance_id": "gone"}, JOB_ID)
        assert "gone" in caught.value.message
        assert all(one.name in caught.value.hint for one in there)

    def test_one_that_failed_is_told_in_brev_s_words(self):
        with pytest.raises(FailedError, match="FAILURE"):
            choose([instance(status="FAILURE")], {"instance_id": "box"}, JOB_ID)

    def test_what_an_earlier_try_of_the_same_start_made_is_taken_again(self):
        there = [instance(own_name(JOB_ID), "DEPLOYING", ""), instance("other")]
        assert choose(there, {"instance_type": "cpu"}, JOB_ID) == Choice(own_name(JOB_ID), "coming", True)

    def test_one_that_works_before_one_of_the_same_name_that_failed(self):
        there = [instance("box", "FAILURE"), instance("box", "RUNNING")]
        assert find_named(there, "box") == there[1]


class TestOptions:
    @pytest.mark.parametrize(
        "options",
        [
            {"instance_id": "a", "instance_type": "b"},
            {"instance_id": "--all"},
            {"instance_id": "two words"},
            {"instance_id": ""},
            {"instance_type": "-t"},
            {"instance_id": "a", "cloud_cred_id": "c"},
            {"cloud_cred_id": "; rm"},
            {"ssh_client": "putty"},
        ],
    )
    def test_what_cannot_be_is_refused(self, options: dict[str, str]):
        with pytest.raises(UsageError):
            check_options(options)

    @pytest.mark.parametrize(
        "options",
        [
            {},
            {"instance_id": "my-box_2"},
            {"instance_type": "n1-highmem-4:nvidia-tesla-t4:1"},
            {"instance_type": "g5.xlarge,g5.2xlarge", "cloud_cred_id": "cc_1", "workspace_group_id": "wg-2"},
            {"ssh_client": "openssh"},
            {"instance_id": None, "instance_type": None, "ssh_client": None},
        ],
    )
    def test_what_can_be_is_not(self, options: dict[str, str]):
        check_options(options)


class TestCreateWords:
    def test_as_the_command_is_now(self):
        words = create_words(NEW_HELP, "moorage-1", {"instance_type": "g5.xlarge"})
        assert words == ["create", "moorage-1", "--type", "g5.xlarge", "--detached"]

    def test_as_it_was(self):
        options = {"instance_type": "L40S:1", "cloud_cred_id": "cc", "workspace_group_id": "wg"}
        words = create_words(OLD_HELP, "moorage-1", options)
        ids = ["--cloud-cred-id", "cc", "--workspace-group-id", "wg"]
        assert words == ["create", "moorage-1", "--gpu", "L40S:1", *ids, "--detached"]

    @pytest.mark.parametrize("option", ["cloud_cred_id", "workspace_group_id"])
    def test_flags_that_it_does_not_know_any_more_are_refused(self, option: str):
        with pytest.raises(UsageError, match=f"--{option.replace('_', '-')}"):
            create_words(NEW_HELP, "moorage-1", {"instance_type": "g5.xlarge", option: "x"})
