"""What a start on Kubernetes was asked for, and where: flags first, then variables, then what is usual. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from moorage.errors import PreflightError, UsageError
from moorage.launch.platforms.kubernetes.names import LABEL_VALUE

ACCESSES = ("load-balancer", "node-port", "port-forward", "cluster-ip")
"""The default first, which is the TAO skill's."""

DEFAULT_NAMESPACE = "default"
NGC_REGISTRY = "nvcr.io"
NGC_USER = "$oauthtoken"
DNS_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", re.ASCII)
DNS_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?", re.ASCII)
VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)


class KubernetesOptions(NamedTuple):
    """None: not given."""

    context: str | None
    """None: the kubeconfig's current one."""
    namespace: str
    access: str
    """One of `ACCESSES`."""
    image_pull_secret: str | None
    """A secret that the namespace has."""
    image_pull_key_env: str | None
    """The variable of the key that a pull secret is made of."""
    pvc: str | None
    as_job: bool


def read_options(options: Mapping[str, Any], environ: Mapping[str, str]) -> KubernetesOptions:
    """Raises UsageError for a value that no cluster would take."""
    access = str(options.get("access") or ACCESSES[0])
    if access not in ACCESSES:
        raise UsageError(f"--access {access!r}: it is {', '.join(ACCESSES)}", code="bad_access")
    secret, variable = options.get("image_pull_secret"), options.get("image_pull_key_env")
    if secret and variable:
        raise UsageError("--image-pull-secret and --image-pull-key-env exclude each other", hint="leave one away")
    return KubernetesOptions(
        context=str(options.get("context") or environ.get("TAO_K8S_CONTEXT") or "") or None,
        namespace=_named("--namespace", options.get("namespace") or namespace_of(environ), DNS_LABEL),
        access=access,
        image_pull_secret=_named("--image-pull-secret", secret, DNS_NAME) if secret else None,
        image_pull_key_env=_named("--image-pull-key-env", variable, VARIABLE) if variable else None,
        pvc=_named("--pvc", options["pvc"], DNS_NAME) if options.get("pvc") else None,
        as_job=bool(options.get("as_job")),
    )


def namespace_of(environ: Mapping[str, str]) -> str:
    """Where services are when nobody says otherwise."""
    return environ.get("TAO_K8S_NAMESPACE") or DEFAULT_NAMESPACE


def check_submission(job_id: str, gpus: str | None, runtime: str | None) -> None:
    """Refuse what no cluster can do. Raises UsageError."""
    if gpus not in (None, "none"):
        raise UsageError(
            f"--gpus {gpus} has no meaning on kubernetes: the cluster chooses which GPUs a service gets",
            code="gpu_ids",
            hint="give their number with --num-gpus, or --gpus none",
        )
    if runtime:
        raise UsageError(f"--runtime {runtime} has no meaning on kubernetes", hint="it chooses a runtime of Docker")
    if not LABEL_VALUE.fullmatch(job_id):
        raise UsageError(f"the job id {job_id!r} cannot be a label in a cluster", hint="leave --job-id away")


def registry_login(image: str, registry: str, variable: str, environ: Mapping[str, str]) -> tuple[str, str]:
    """(user, password) for the image's registry, from the named variable.

    It holds the NGC key for nvcr.io, whose user has one name for all; elsewhere `USER:PASSWORD`. Raises PreflightError.
    """
    value = environ.get(variable, "")
    if not value:
        raise PreflightError(
            f"the variable {variable}, which --image-pull-key-env names, is not set",
            code="pull_key_missing",
            hint=f"set it to the key for {registry}, which {image} is pulled from",
            next=[f"export {variable}=…"],
        )
    if registry == NGC_REGISTRY:
        return NGC_USER, value
    user, colon, password = value.partition(":")
    if not (user and colon and password):
        raise PreflightError(
            f"the variable {variable} does not hold USER:PASSWORD, which {registry} needs",
            code="pull_key_missing",
            hint=f"only {NGC_REGISTRY} takes a key alone",
        )
    return user, password


def _named(flag: str, value: Any, pattern: re.Pattern[str]) -> str:
    text = str(value)
    if not pattern.fullmatch(text):
        raise UsageError(f"{flag} {text!r} cannot be a name", code="bad_name", hint="small letters, digits and hyphens")
    return text
