"""What a cluster's objects mean for a service: its life, the reason, its address, its fate."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from moorage.errors import (
    ConflictError,
    FailedError,
    MoorageError,
    NotFoundError,
    PlatformUnreachable,
    PreflightError,
    UsageError,
)
from moorage.launch.platforms.kubernetes.faults import refusal, unreachable
from moorage.launch.platforms.kubernetes.pods import newest_pod, sign_of
from moorage.launch.platforms.kubernetes.states import Found, life_of, node_address, troubled_uids, url_of

NOW = "2026-11-21T12:00:00Z"
NOW_S = datetime(2026, 11, 21, 12, tzinfo=UTC).timestamp()
LONG_AGO = "2026-11-21T11:00:00Z"
JUST_NOW = "2026-11-21T11:59:58Z"


def pod(
    state: dict[str, Any] | None = None, *, restarts: int = 0, last: dict[str, Any] | None = None, **status: Any
) -> dict[str, Any]:
    containers = [{"name": "server", "state": state, "restartCount": restarts, "lastState": last or {}}]
    metadata = {"name": "p", "uid": "pod-uid", "creationTimestamp": LONG_AGO}
    whole = {"phase": "Running", **({"containerStatuses": containers} if state is not None else {}), **status}
    return {"metadata": metadata, "spec": {"nodeName": "n1"}, "status": whole}


def ended(code: int, reason: str = "Error", message: str = "") -> dict[str, Any]:
    return {"terminated": {"exitCode": code, "reason": reason, "message": message}}


def waiting(reason: str, message: str = "") -> dict[str, Any]:
    return {"waiting": {"reason": reason, "message": message}}


def event(reason: str, message: str = "") -> dict[str, Any]:
    return {"reason": reason, "message": message, "lastTimestamp": NOW, "metadata": {}}


def unscheduled(since: str) -> dict[str, Any]:
    words = "0/1 nodes are available: 1 Insufficient nvidia.com/gpu."
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": words}
    return pod(None, phase="Pending", conditions=[condition | {"lastTransitionTime": since}])


def found(
    *pods: dict[str, Any], ready_once: bool = False, events: list[dict[str, Any]] | None = None, **changes: Any
) -> Found:
    whole = Found()
    reason = "NewReplicaSetAvailable" if ready_once else "ReplicaSetUpdated"
    whole.workload = {
        "metadata": {"uid": "workload-uid", "creationTimestamp": LONG_AGO},
        "spec": {"replicas": 1, **changes.pop("spec", {})},
        "status": {"conditions": [{"type": "Progressing", "reason": reason}, *changes.pop("conditions", [])]},
    }
    whole.pods = list(pods)
    whole.events = {"pod-uid": events or [], "workload-uid": events or []}
    for name, value in changes.items():
        setattr(whole, name, value)
    return whole


BACK_OFF = waiting("ImagePullBackOff", 'Back-off pulling image "x:1"')
RUNNING = {"running": {"startedAt": NOW}}


@pytest.mark.parametrize(
    ("made", "state", "outlook", "words"),
    [
        (pod(waiting("ContainerCreating")), "alive", None, "ContainerCreating"),
        (pod(RUNNING), "alive", None, "running, not ready"),
        (pod(ended(17)), "exited", None, "exit code 17"),
        (pod(RUNNING, restarts=1, last=ended(17)), "exited", None, "exit code 17"),
        (pod(waiting("CrashLoopBackOff"), restarts=2, last=ended(137, "OOMKilled")), "exited", None, "OOMKilled (exit"),
        (pod(ended(128, "ContainerCannotRun", "no such file")), "exited", None, "exit code 128: no such file"),
        (pod(ended(0, "Completed")), "exited", None, "exit code 0"),
        (pod(waiting("InvalidImageName", "bad")), "alive", "failed", "InvalidImageName: bad"),
        (pod(waiting("ErrImageNeverPull", "not present")), "alive", "failed", "ErrImageNeverPull: not present"),
        (pod(waiting("ErrImagePull", "manifest unknown")), "alive", None, "manifest unknown"),
        (pod(BACK_OFF), "alive", "failed", "ImagePullBackOff"),
        (pod(waiting("CreateContainerConfigError", 'secret "x" not found')), "alive", "failed", 'secret "x" not found'),
        (pod(waiting("CreateContainerError", "context deadline exceeded")), "alive", None, "deadline"),
        (pod(None, phase="Pending"), "alive", None, "waiting for a node"),
        (pod(None, phase="Failed", reason="Evicted", message="low on memory"), "exited", None, "low on memory"),
        (unscheduled(JUST_NOW), "alive", None, "Insufficient nvidia.com/gpu"),
        (unscheduled(LONG_AGO), "alive", "no_capacity", "Insufficient nvidia.com/gpu"),
    ],
)
def test_the_life_of_a_service_by_its_pod(made: dict[str, Any], state: str, outlook: str | None, words: str) -> None:
    life = life_of(found(made), {"job_id": "j"}, now_s=NOW_S)
    assert (life.state, life.outlook, life.exists) == (state, outlook, True)
    assert words in (life.detail or "")


@pytest.mark.parametrize(
    ("made", "events", "outlook", "words"),
    [
        (pod(BACK_OFF), [event("Failed", "pull x: manifest unknown")], "failed", "manifest unknown"),
        (pod(BACK_OFF), [event("Failed", "dial tcp: i/o timeout")], None, "i/o timeout"),
        (pod(BACK_OFF), [event("Failed", "Error: ImagePullBackOff")], "failed", "Back-off pulling image"),
        (unscheduled(LONG_AGO), [event("TriggeredScaleUp", "1->2")], None, "the cluster adds a node"),
        (unscheduled(JUST_NOW), [event("NotTriggerScaleUp", "max")], "no_capacity", "Insufficient"),
        (
            pod(waiting("ContainerCreating")),
            [event("FailedMount", "hostPath type check failed: /x")],
            "failed",
            "/x",
        ),
        (pod(waiting("ContainerCreating")), [event("FailedMount", "timed out waiting")], None, "timed out"),
    ],
)
def test_events_say_more(made: dict[str, Any], events: list[dict[str, Any]], outlook: str | None, words: str) -> None:
    life = life_of(found(made, events=events), {"job_id": "j"}, now_s=NOW_S)
    assert life.outlook == outlook
    assert words in (life.detail or "")


@pytest.mark.parametrize(
    ("made", "detail"),
    [
        (pod(waiting("CrashLoopBackOff"), restarts=2, last=ended(9)), "the cluster starts it again after exit code 9"),
        (pod(RUNNING, restarts=1, last=ended(9)), "running, not ready, started again after exit code 9"),
    ],
)
def test_one_that_dies_after_it_was_ready_is_started_again(made: dict[str, Any], detail: str) -> None:
    life = life_of(found(made, ready_once=True), {"job_id": "j"}, now_s=NOW_S)
    assert (life.state, life.outlook, life.detail) == ("alive", None, detail)


def test_without_a_pod() -> None:
    refused = {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": "exceeded quota: q"}
    failed = {"type": "Failed", "status": "True"}
    leaving = pod(RUNNING) | {"metadata": {**pod()["metadata"], "deletionTimestamp": NOW}}
    table = [
        (found(), "alive", None, "no pod yet"),
        (found(leaving), "alive", None, "being replaced"),
        (found(conditions=[refused]), "alive", "failed", "FailedCreate: exceeded quota: q"),
        (found(events=[event("FailedCreate", "exceeded quota: q")]), "alive", "failed", "exceeded quota: q"),
        (found(conditions=[failed]), "exited", None, "a job makes no other"),
        (found(spec={"paused": True}), "exited", None, "created, not started"),
        (found(spec={"parallelism": 0}), "exited", None, "created, not started"),
    ]
    for whole, state, outlook, words in table:
        life = life_of(whole, {"job_id": "j"}, now_s=NOW_S)
        assert (life.state, life.outlook) == (state, outlook), words
        assert words in (life.detail or "")
    young = found(spec={"paused": True})
    assert young.workload is not None
    young.workload["metadata"]["creationTimestamp"] = JUST_NOW  # type: ignore[index]
    assert life_of(young, {"job_id": "j"}, now_s=NOW_S).state == "alive"


def test_what_is_left_and_what_is_gone() -> None:
    gone, only_pods, only_service, leaving = Found(), Found(), Found(), found()
    only_pods.pods = [pod(RUNNING)]
    only_service.service = {"metadata": {"uid": "s"}}
    assert leaving.workload is not None
    leaving.workload["metadata"]["deletionTimestamp"] = NOW  # type: ignore[index]
    lives = [life_of(whole, {"job_id": "j"}, now_s=NOW_S) for whole in (gone, only_pods, only_service, leaving)]
    assert {life.state for life in lives} == {"exited"}
    assert [life.exists for life in lives] == [False, True, True, True]


def test_the_newest_pod_that_stays_counts() -> None:
    def made(name: str, at: str, **more: Any) -> dict[str, Any]:
        one = pod(RUNNING, **more)
        return one | {"metadata": {"name": name, "creationTimestamp": at}}

    evicted = made("evicted", NOW, phase="Failed")
    leaving = made("leaving", NOW)
    leaving["metadata"]["deletionTimestamp"] = NOW
    old, new = made("old", LONG_AGO), made("new", JUST_NOW)
    assert newest_pod([old, new, evicted, leaving]) is new
    assert newest_pod([evicted]) is evicted
    assert newest_pod([leaving]) is None


READY = pod(RUNNING)
READY["status"]["containerStatuses"][0]["ready"] = True
READY["status"]["hostIP"] = "10.0.0.9"


def service(**changes: Any) -> dict[str, Any]:
    spec = {"clusterIP": "10.1.1.1", "ports": [{"port": 8080, "nodePort": 30123}]} | changes.pop("spec", {})
    return {"metadata": {"uid": "service-uid"}, "spec": spec, **changes}


def balancer(**ingress: str) -> dict[str, Any]:
    return {"loadBalancer": {"ingress": [ingress]}}


@pytest.mark.parametrize(
    ("access", "made", "addresses", "fields"),
    [
        ("cluster-ip", service(), {}, {"host_url": "http://10.1.1.1:8080"}),
        ("cluster-ip", service(spec={"clusterIP": "fd00::1"}), {}, {"host_url": "http://[fd00::1]:8080"}),
        ("node-port", service(), {}, {"node_port": 30123, "host_url": "http://10.0.0.9:30123"}),
        ("node-port", service(), {"n1": "192.0.2.1"}, {"node_port": 30123, "host_url": "http://192.0.2.1:30123"}),
        ("load-balancer", service(), {}, {"host_url": None}),
        ("load-balancer", service(status=balancer(ip="192.0.2.7")), {}, {"host_url": "http://192.0.2.7:8080"}),
        ("load-balancer", service(status=balancer(hostname="lb.example")), {}, {"host_url": "http://lb.example:8080"}),
        ("port-forward", service(), {}, {}),
    ],
)
def test_where_it_is_reached(access: str, made: Any, addresses: Any, fields: dict[str, Any]) -> None:
    whole = found(READY, ready_once=True, service=made, addresses=addresses)
    assert life_of(whole, {"job_id": "j", "access": access}, now_s=NOW_S).fields == fields


def test_a_load_balancer_that_does_not_come_says_why() -> None:
    whole = found(READY, ready_once=True, service=service())
    entry = {"job_id": "j", "access": "load-balancer"}
    assert troubled_uids(whole, entry) == ["service-uid"]
    assert "--access port-forward" in (life_of(whole, entry, now_s=NOW_S).detail or "")
    whole.events["service-uid"] = [event("SyncLoadBalancerFailed", "no quota for addresses")]
    assert "no quota for addresses" in (life_of(whole, entry, now_s=NOW_S).detail or "")


def test_only_what_is_in_trouble_has_its_events_read() -> None:
    assert troubled_uids(found(READY), {"access": "cluster-ip"}) == []
    assert troubled_uids(found(pod(BACK_OFF)), {}) == ["pod-uid"]
    assert troubled_uids(found(), {}) == ["workload-uid"]
    assert troubled_uids(Found(), {}) == []


def test_the_address_of_a_node() -> None:
    inner, outer = {"type": "InternalIP", "address": "10.0.0.1"}, {"type": "ExternalIP", "address": "192.0.2.1"}
    assert node_address({"status": {"addresses": [inner, outer]}}) == "192.0.2.1"
    assert node_address({"status": {"addresses": [inner]}}) == "10.0.0.1"
    assert node_address({"status": {}}) is None
    assert url_of("10.0.0.1", 80) == "http://10.0.0.1:80"


def test_a_pod_that_says_nothing_yet_is_starting() -> None:
    assert sign_of(pod(None), [], now_s=NOW_S).meaning == "starting"
    assert sign_of(pod(waiting("")), [], now_s=NOW_S).meaning == "starting"


def status(message: str, reason: str = "", kind: str = "") -> bytes:
    return json.dumps({"kind": "Status", "message": message, "reason": reason, "details": {"kind": kind}}).encode()


@pytest.mark.parametrize(
    ("code", "body", "error", "name"),
    [
        (401, status("Unauthorized"), PreflightError, "login_refused"),
        (403, status('pods is forbidden: User "u" cannot list'), PreflightError, "forbidden"),
        (403, status("forbidden: exceeded quota: q, requested: pods=1"), FailedError, "quota_exceeded"),
        (403, status('admission webhook "w" denied the request'), PreflightError, "admission_refused"),
        (403, status('violates PodSecurity "restricted:latest"'), PreflightError, "admission_refused"),
        (403, status("it is being terminated"), PreflightError, "namespace_missing"),
        (404, status('namespaces "x" not found', "NotFound", "namespaces"), PreflightError, "namespace_missing"),
        (404, status('pods "x" not found', "NotFound", "pods"), NotFoundError, "not_found"),
        (409, status("already exists", "AlreadyExists"), ConflictError, "name_taken"),
        (409, status("the object has been modified", "Conflict"), ConflictError, "conflict"),
        (422, status("Invalid value"), UsageError, "refused_manifest"),
        (429, b"slow down", PlatformUnreachable, "cluster_unreachable"),
        (500, b"", PlatformUnreachable, "cluster_unreachable"),
        (410, status("gone"), FailedError, "start_failed"),
    ],
)
def test_refusals(code: int, body: bytes, error: type[MoorageError], name: str) -> None:
    fault = refusal(code, body, what="create deployments", context="ci")
    assert (type(fault), fault.code) == (error, name)
    assert (json.loads(body)["message"] if body.startswith(b"{") else body.decode()) in fault.message


def test_a_cluster_that_does_not_answer_is_named_without_addresses_in_memory() -> None:
    fault = unreachable("https://x:6443", OSError("<urllib3.Connection object at 0x7f>: Failed to connect: refused"))
    assert fault.message == "the cluster at https://x:6443 does not answer: Failed to connect: refused"
