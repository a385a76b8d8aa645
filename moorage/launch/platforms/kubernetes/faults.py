"""What a cluster answers when it refuses, as errors of ours: status and words in, error out, no effects."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from moorage.errors import (
    ConflictError,
    FailedError,
    MoorageError,
    NotFoundError,
    PlatformUnreachable,
    PreflightError,
    UsageError,
)

QUOTA = "exceeded quota"
WEBHOOK = "admission webhook"


def refusal(status: int, body: bytes, *, what: str, context: str) -> MoorageError:
    """The error for an answer that is none. `what`: what was asked, in words; `context`: of whom."""
    words = words_of(body) or f"HTTP {status}"
    message = f"{what}: {words}"
    if status == 401:
        return login_refused(context, words)
    if status == 403:
        return _forbidden(message, words)
    if status == 404:
        return _not_there(message, body)
    if status == 409:
        return _conflict(message, body)
    if status in (400, 413, 422):
        return UsageError(message, code="refused_manifest", hint="the cluster takes no object like this one")
    if status == 429 or status >= 500:
        return PlatformUnreachable(message, code="cluster_unreachable", hint="is the cluster overloaded?")
    return FailedError(message, code="start_failed")


def login_refused(context: str, words: str) -> PreflightError:
    """The cluster does not know who asks."""
    return PreflightError(
        f"the cluster of context {context} refused the login: {words}",
        code="login_refused",
        hint="the credentials in the kubeconfig (variable KUBECONFIG) are wrong or have expired",
        next=["kubectl config view --minify"],
    )


def unreachable(host: str, fault: BaseException) -> PlatformUnreachable:
    """The cluster does not answer. `host`: its address."""
    return PlatformUnreachable(
        f"the cluster at {host} does not answer: {_root(fault)}",
        code="cluster_unreachable",
        hint="is it there, and is this machine on its network or VPN?",
        next=["moor doctor --platform kubernetes"],
    )


def not_configured(why: str) -> PreflightError:
    """There is no cluster to ask."""
    return PreflightError(
        f"no cluster is configured: {why}",
        code="not_configured",
        hint="point KUBECONFIG at a kubeconfig file, or put one at ~/.kube/config",
        next=["moor doctor --platform kubernetes"],
    )


def no_context(context: str, known: list[str], place: str) -> PreflightError:
    """The kubeconfig lacks the context that was asked for."""
    return PreflightError(
        f"the kubeconfig {place} has no context {context!r}",
        code="context_missing",
        hint=f"it has: {', '.join(known) or 'none'}; choose with --context or TAO_K8S_CONTEXT",
        next=["kubectl config get-contexts"],
    )


def namespace_missing(namespace: str, context: str) -> PreflightError:
    return PreflightError(
        f"the cluster of context {context} has no namespace {namespace}",
        code="namespace_missing",
        hint="choose one with --namespace or TAO_K8S_NAMESPACE, or make it",
        next=[f"kubectl --context {context} create namespace {namespace}"],
    )


def not_allowed(denied: list[str], namespace: str, context: str) -> PreflightError:
    """`denied`: what the user may not do, such as `create deployments.apps`."""
    return PreflightError(
        f"context {context} may not {', '.join(denied)} in the namespace {namespace}",
        code="forbidden",
        hint="choose another namespace, or ask the cluster's administrator for a role that allows it",
        next=[f"kubectl --context {context} -n {namespace} auth can-i {denied[0]}"],
    )


def named_object_missing(kind: str, name: str, flag: str, namespace: str) -> PreflightError:
    """An object that the start names and does not make is not there."""
    return PreflightError(
        f"the namespace {namespace} has no {kind} {name}, which {flag} names",
        code=f"{flag.removeprefix('--').replace('-', '_')}_missing",
        hint="make it, or correct its name",
        next=[f"kubectl -n {namespace} get {kind}"],
    )


def words_of(body: bytes) -> str:
    """The message of a Status object, else the beginning of the text."""
    status = _status_of(body)
    text = status.get("message") if status else body.decode("utf-8", "replace").strip()
    return str(text or "")[:1000]


def _forbidden(message: str, words: str) -> MoorageError:
    if QUOTA in words:
        hint = "ask for less, stop another service, or have the quota raised"
        return FailedError(message, code="quota_exceeded", hint=hint)
    if WEBHOOK in words or "PodSecurity" in words or "violates" in words:
        hint = "the cluster's policies refuse it: the words above say which"
        return PreflightError(message, code="admission_refused", hint=hint)
    if "being terminated" in words:
        return PreflightError(message, code="namespace_missing", hint="choose another namespace with --namespace")
    hint = "choose another namespace, or ask the cluster's administrator for a role that allows it"
    return PreflightError(message, code="forbidden", hint=hint)


def _not_there(message: str, body: bytes) -> MoorageError:
    if _details(body).get("kind") == "namespaces":
        hint = "choose one with --namespace or TAO_K8S_NAMESPACE"
        return PreflightError(message, code="namespace_missing", hint=hint)
    return NotFoundError(message)


def _conflict(message: str, body: bytes) -> MoorageError:
    status = _status_of(body) or {}
    if status.get("reason") == "AlreadyExists":
        return ConflictError(message, code="name_taken", hint="leave --job-id away to get a new one")
    return ConflictError(message)


def _status_of(body: bytes) -> dict[str, Any] | None:
    try:
        status = json.loads(body)
    except ValueError:
        return None
    return status if isinstance(status, dict) else None


def _details(body: bytes) -> Mapping[str, Any]:
    details = (_status_of(body) or {}).get("details")
    return details if isinstance(details, dict) else {}


def _root(fault: BaseException) -> str:
    """The innermost reason, without addresses of objects in memory."""
    reason: Any = getattr(fault, "reason", None)
    text = str(reason if isinstance(reason, Exception) else fault)
    return text.rpartition(">: ")[2] or type(fault).__name__
