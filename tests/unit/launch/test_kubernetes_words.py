"""What is read out of single objects and events of a cluster, and what is said where something is missing."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moorage.errors import PreflightError, UsageError
from moorage.launch.platforms.kubernetes import faults
from moorage.launch.platforms.kubernetes.look import by_place, is_ours, kind_of
from moorage.launch.platforms.kubernetes.names import job_of, labels_of
from moorage.launch.platforms.kubernetes.options import ACCESSES, check_submission, namespace_of, read_options
from moorage.launch.platforms.kubernetes.pods import (
    ending_of,
    has_started,
    moment_of,
    passes,
    restarts_of,
    seconds_of,
    sign_of,
    unanswered_words,
)
from moorage.launch.platforms.kubernetes.states import (
    Found,
    address_fields,
    container_port,
    life_of,
    sort_objects,
    troubled_uids,
    tunnel_route,
    url_of,
    was_ready,
)
from moorage.launch.tunnel.kubernetes_route import running_pod

NOW = "2026-11-21T12:00:00Z"
RUNNING: dict[str, Any] = {"running": {"startedAt": NOW}}
JOB_ID = "c0ffee00-0000-4000-8000-000000000001"


def ended(code: int, **more: str) -> dict[str, Any]:
    return {"terminated": {"exitCode": code, **more}}


def pod(name: str = "p", *, at: str = NOW, job_id: str = JOB_ID, **status: Any) -> dict[str, Any]:
    """`state`, `lastState`, `restartCount` and `ready` are of its container."""
    names = ("state", "lastState", "restartCount", "ready")
    container = {key: status.pop(key) for key in names if key in status}
    status |= {"containerStatuses": [container]} if container else {}
    metadata = {"name": name, "uid": f"{name}-uid", "creationTimestamp": at, "labels": labels_of(job_id, "alice")}
    return {"metadata": metadata, "spec": {}, "status": status}


def event(reason: str, message: str, **moments: str) -> dict[str, Any]:
    return {"reason": reason, "message": message, "metadata": {"creationTimestamp": "2026-01-01T00:00:00Z"}, **moments}


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (pod(), None),
        (pod(state=RUNNING), None),
        (pod(state=ended(17)), "exit code 17"),
        (pod(state=ended(17, reason="Error")), "exit code 17"),
        (pod(state=ended(0, reason="Completed", message="bye")), "exit code 0"),
        (pod(state=ended(137, reason="OOMKilled")), "OOMKilled (exit code 137)"),
        (pod(state=ended(128, reason="StartError", message=" no such file ")), "exit code 128: no such file"),
        (pod(state=RUNNING, lastState=ended(9)), "exit code 9"),
        (pod(state=ended(1), lastState=ended(9)), "exit code 1"),
    ],
)
def test_how_a_container_ended(made: dict[str, Any], words: str | None) -> None:
    assert ending_of(made) == words


@pytest.mark.parametrize(
    ("made", "started", "restarts"),
    [
        (pod(), False, 0),
        (pod(state={"waiting": {}}), False, 0),
        (pod(state=RUNNING), True, 0),
        (pod(state={"waiting": {}}, lastState=ended(1), restartCount=3), True, 3),
        (pod(state=None, restartCount=None), False, 0),
    ],
)
def test_whether_there_can_be_a_log(made: dict[str, Any], started: bool, restarts: int) -> None:
    assert (has_started(made), restarts_of(made)) == (started, restarts)


def test_the_latest_event_speaks() -> None:
    old = event("Failed", "old", lastTimestamp="2026-11-21T11:00:00Z")
    new = event("Failed", " new ", eventTime="2026-11-21T12:00:00.000000Z")
    made = event("Failed", "made")
    assert unanswered_words([new, old, made, event("Pulled", "fine")], "Failed") == "new"
    assert unanswered_words([event("Failed", "")], "Failed") is None
    assert unanswered_words([], "Failed") is None
    assert [moment_of(one)[:10] for one in (old, new, made)] == ["2026-11-21", "2026-11-21", "2026-01-01"]


@pytest.mark.parametrize(
    ("moment", "seconds"),
    [("1970-01-01T00:01:00Z", 60.0), ("1970-01-01T00:01:00.5+00:00", 60.5), (None, 0.0), ("soon", 0.0), (7, 0.0)],
)
def test_moments(moment: object, seconds: float) -> None:
    assert seconds_of(moment) == seconds


@pytest.mark.parametrize(
    ("words", "may_pass"),
    [
        ("dial tcp: i/o timeout", True),
        ("net/http: TLS handshake timeout", True),
        ("connect: connection refused", True),
        ("toomanyrequests: You have reached your pull rate limit", True),
        ("received unexpected HTTP status: 503 Service Unavailable", True),
        ("manifest unknown", False),
        ("pull access denied", False),
        ("", False),
    ],
)
def test_faults_that_may_pass(words: str, may_pass: bool) -> None:
    assert passes(words) is may_pass


@pytest.mark.parametrize(
    ("reason", "message", "events", "meaning", "words"),
    [
        ("InvalidImageName", "couldn't parse", [], "failed", "InvalidImageName: couldn't parse"),
        ("ErrImageNeverPull", "", [], "failed", "ErrImageNeverPull"),
        ("ErrImagePull", "manifest unknown", [], "starting", "ErrImagePull: manifest unknown"),
        ("ImagePullBackOff", "Back-off", [event("Failed", "denied")], "failed", "ImagePullBackOff: denied"),
        ("ImagePullBackOff", "Back-off", [event("Failed", "i/o timeout")], "starting", "ImagePullBackOff: i/o timeout"),
        ("ImageInspectError", "", [event("InspectFailed", "bad layer")], "failed", "ImageInspectError: bad layer"),
        ("CreateContainerConfigError", 'secret "s" not found', [], "failed", 'secret "s" not found'),
        ("CreateContainerError", "context deadline exceeded", [], "starting", "deadline exceeded"),
        ("RunContainerError", "", [], "failed", "RunContainerError"),
        ("CrashLoopBackOff", "", [], "down", "CrashLoopBackOff"),
        ("SomethingNew", "who knows", [], "starting", "SomethingNew: who knows"),
        ("ContainerCreating", "", [], "starting", "ContainerCreating"),
        ("ContainerCreating", "", [event("FailedCreatePodSandBox", "no network yet")], "starting", "no network yet"),
        ("PodInitializing", "", [event("FailedMount", "persistentvolumeclaim lost")], "failed", "claim lost"),
        ("PodInitializing", "", [event("FailedMount", "persistentvolumeclaim: timed out")], "starting", "timed out"),
    ],
)
def test_what_a_waiting_container_means(
    reason: str, message: str, events: list[dict[str, Any]], meaning: str, words: str
) -> None:
    sign = sign_of(pod(state={"waiting": {"reason": reason, "message": message}}), events, now_s=0)
    assert (sign.meaning, words in (sign.detail or "")) == (meaning, True), sign


@pytest.mark.parametrize(
    ("status", "words"),
    [
        ({"phase": "Failed", "message": "The node was low on memory", "reason": "Evicted"}, "low on memory"),
        ({"phase": "Failed", "reason": "NodeLost"}, "NodeLost"),
        ({"phase": "Failed"}, "Failed"),
        ({"phase": "Succeeded", "state": ended(0)}, "exit code 0"),
    ],
)
def test_a_pod_that_has_ended(status: dict[str, Any], words: str) -> None:
    sign = sign_of(pod(**status), [], now_s=0)
    assert (sign.meaning, words in (sign.detail or "")) == ("ended", True)


def test_the_pod_that_a_tunnel_leads_to() -> None:
    old, new = pod("old", state=RUNNING, at="2026-11-21T11:00:00Z"), pod("new", state=RUNNING)
    coming, going = pod("coming", state={"waiting": {}}), pod("going", state=RUNNING)
    going["metadata"]["deletionTimestamp"] = NOW
    assert running_pod([old, new, coming]) == "new"
    assert running_pod([old, coming, going]) == "old"
    assert running_pod([coming, going, pod("bare")]) is None
    assert running_pod([]) is None


def test_objects_are_sorted_by_their_label() -> None:
    other = "c0ffee00-0000-4000-8000-000000000002"
    mine, theirs, strange = pod("a"), pod("b", job_id=other), pod("c")
    strange["metadata"]["labels"] = None
    found = sort_objects([JOB_ID, other, "none"], [mine], [mine, theirs, strange], [theirs])
    assert (found[JOB_ID].workload, found[JOB_ID].pods, found[JOB_ID].service) == (mine, [mine], None)
    assert (found[other].workload, found[other].pods, found[other].service) == (None, [theirs], theirs)
    assert found["none"].pods == []
    assert job_of(strange) is None


@pytest.mark.parametrize(
    ("entry", "ours", "kind"),
    [
        ({}, True, "deployments"),
        ({"platform_job_id": f"moorage-{JOB_ID}"}, True, "deployments"),
        ({"as_job": True}, True, "jobs"),
        ({"platform_job_id": "tao-7"}, False, "jobs"),
    ],
)
def test_which_workload_an_entry_means(entry: dict[str, Any], ours: bool, kind: str) -> None:
    entry = {"job_id": JOB_ID, **entry}
    assert (is_ours(entry), kind_of(entry)) == (ours, kind)


def test_services_are_asked_for_where_they_are() -> None:
    entries = [{"job_id": "a"}, {"job_id": "b", "context": "x"}, {"job_id": "c", "namespace": "n"}, {"job_id": "d"}]
    places = [
        (context, there, [one["job_id"] for one in group]) for context, there, group in by_place(entries, namespace="d")
    ]
    assert places == [(None, "d", ["a", "d"]), ("x", "d", ["b"]), (None, "n", ["c"])]


@pytest.mark.parametrize(
    ("spec", "port"),
    [
        ({"containers": [{"ports": [{"containerPort": 8000}]}]}, 8000),
        ({"containers": [{"ports": []}]}, 8080),
        ({"containers": [{}]}, 8080),
        ({}, 8080),
        (None, 8080),
    ],
)
def test_where_the_server_listens(spec: dict[str, Any] | None, port: int) -> None:
    found = Found()
    found.pods = [pod() | {"spec": spec}]
    assert container_port(found) == port
    assert container_port(Found()) == 8080


def test_the_way_of_a_tunnel() -> None:
    entry = {"job_id": JOB_ID, "namespace": "team", "context": None, "host_url": "x"}
    place = {"kind": "kubernetes", "context": None, "namespace": "team"}
    assert tunnel_route(entry, 8000) == {**place, "selector": f"moorage.job_id={JOB_ID}", "port": 8000}


@pytest.mark.parametrize("access", ACCESSES)
def test_no_access_has_an_address_before_it_has_a_service(access: str) -> None:
    assert address_fields(Found(), {"access": access}) == {}


@pytest.mark.parametrize(
    ("access", "service", "fields"),
    [
        ("node-port", {"spec": {"ports": [{"nodePort": 30001}]}}, {"node_port": 30001}),  # no pod yet
        ("node-port", {"spec": {"ports": [{}]}}, {}),
        ("node-port", {"spec": None}, {}),
        ("cluster-ip", {"spec": {"clusterIP": "None"}}, {}),
        ("cluster-ip", {"spec": {}}, {}),
        (
            "load-balancer",
            {"status": {"loadBalancer": {"ingress": [{}, {"ip": "192.0.2.7"}]}}},
            {"host_url": "http://192.0.2.7:8080"},
        ),
        ("load-balancer", {"status": None}, {"host_url": None}),
        (None, {"spec": {"clusterIP": "10.0.0.1"}}, {"host_url": "http://10.0.0.1:8080"}),  # of another tool
    ],
)
def test_addresses_that_are_not_whole_yet(access: str | None, service: dict[str, Any], fields: dict[str, Any]) -> None:
    found = Found()
    found.service = {"metadata": {"uid": "s"}, **service}
    assert address_fields(found, {"access": access}) == fields


@pytest.mark.parametrize(
    ("made", "state", "detail"),
    [
        (pod(state=RUNNING, ready=False), "alive", "running, not ready"),
        (pod(state=RUNNING, ready=True), "alive", None),
        (pod(phase="Failed", reason="Evicted"), "exited", "Evicted"),
        (pod(), "alive", "waiting for a node"),
    ],
)
def test_a_job_s_life(made: dict[str, Any], state: str, detail: str | None) -> None:
    found = Found()
    found.workload = {"metadata": {"uid": "w"}, "spec": {"parallelism": 1}}
    found.pods = [made]
    life = life_of(found, {"job_id": JOB_ID, "access": "port-forward"}, now_s=0)
    assert (life.state, life.detail) == (state, detail)
    assert troubled_uids(found, {}) == ([] if detail is None else ["p-uid"])


@pytest.mark.parametrize(
    ("conditions", "ready"),
    [
        ([{"type": "Progressing", "reason": "NewReplicaSetAvailable"}], True),
        ([{"type": "Progressing", "reason": "ReplicaSetUpdated"}], False),
        ([{"type": "Available", "reason": "NewReplicaSetAvailable"}], False),
        (None, False),
    ],
)
def test_whether_it_ever_was_ready(conditions: Any, ready: bool) -> None:
    assert was_ready({"metadata": {}, "status": {"conditions": conditions}}) is ready


@given(st.ip_addresses(), st.integers(1, 65535))
def test_addresses_are_urls(address: Any, port: int) -> None:
    from urllib.parse import urlsplit

    parts = urlsplit(url_of(str(address), port))
    assert (parts.hostname, parts.port) == (str(address), port)


@pytest.mark.parametrize(
    ("fault", "code", "words"),
    [
        (faults.not_configured("KUBECONFIG is not there"), "not_configured", ["KUBECONFIG is not there", "~/.kube"]),
        (faults.no_context("x", ["a", "b"], "/k"), "context_missing", ["/k", "'x'", "a, b", "TAO_K8S_CONTEXT"]),
        (faults.no_context("", [], "/k"), "context_missing", ["it has: none"]),
        (faults.namespace_missing("n", "c"), "namespace_missing", ["context c", "namespace n", "--namespace"]),
        (faults.not_allowed(["create pods"], "n", "c"), "forbidden", ["may not create pods", "namespace n"]),
        (
            faults.named_object_missing("secret", "s", "--image-pull-secret", "n"),
            "image_pull_secret_missing",
            ["secret s"],
        ),
        (faults.named_object_missing("persistentvolumeclaim", "p", "--pvc", "n"), "pvc_missing", ["--pvc"]),
        (faults.login_refused("c", "Unauthorized"), "login_refused", ["context c", "Unauthorized", "KUBECONFIG"]),
    ],
)
def test_what_is_missing_is_said_with_what_to_do(fault: PreflightError, code: str, words: list[str]) -> None:
    said = f"{fault.message}; {fault.hint}"
    assert (fault.code, [word for word in words if word not in said]) == (code, [])
    assert fault.next


@pytest.mark.parametrize(
    ("words", "refused"),
    [
        (("j", None, None), False),
        (("j", "none", None), False),
        (("j", "0", None), True),
        (("j", None, "nvidia"), True),
        (("-j", None, None), True),
        (("j" * 64, None, None), True),
        (("", None, None), True),
    ],
)
def test_what_no_cluster_can_do(words: tuple[str, str | None, str | None], refused: bool) -> None:
    if not refused:
        return check_submission(*words)
    with pytest.raises(UsageError):
        check_submission(*words)
    return None


def test_each_access_is_one_of_the_flag_s_words() -> None:
    assert [read_options({"access": access}, {}).access for access in ACCESSES] == list(ACCESSES)
    assert namespace_of({"TAO_K8S_NAMESPACE": ""}) == "default"
