"""A service as a Lepton endpoint and back: values in, values out, no effects.

The manifest has the shape that the SDK's `LeptonDeployment` takes; the SDK turns it into what the workspace's API
family wants. Nothing in it is a secret's value: secrets are references to secrets of the workspace, and the key of the
endpoint is written by the caller in the last moment.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping

from moorage.errors import PreflightError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from moorage.launch.entry import Entry
    from moorage.launch.platforms.base import Submission

    Json = dict[str, Any]

NAME_PREFIX = "moorage-"
ID_CHARACTERS = 24
"""Of the job id, in an endpoint's name: names may have 36 characters at most."""

JOB_ENV, LABEL_ENV, OWNER_ENV = "MOORAGE_JOB_ID", "MOORAGE_ENTRY", "MOORAGE_OWNER"
"""Variables of the container by which `find` knows a service, as one API family refuses labels. None of them is the one
that marks local processes: what runs in the container must not be taken for those."""
JOB_LABEL, OWNER_LABEL = "moorage.job_id", "moorage.owner"

DEFAULT_TOKEN_ENV = "MOORAGE_LEPTON_TOKEN"  # noqa: S105 - the name of a variable
CREDENTIALS_HINT = (
    "set LEPTON_WORKSPACE_ID and LEPTON_AUTH_TOKEN (or LEPTON_WORKSPACE_ID=ID:TOKEN), from the credentials page of the "
    "workspace"
)


class Credentials:
    """Which workspace, and the token for it; `url` None: where the SDK says that workspace is."""

    __slots__ = ("token", "url", "workspace_id")

    def __init__(self, workspace_id: str, token: str, url: str | None) -> None:
        self.workspace_id = workspace_id
        self.token = token
        self.url = url

    def __repr__(self) -> str:
        return f"Credentials({self.workspace_id!r}, url={self.url!r})"


class Wish:
    """What the platform's flags ask for, checked."""

    __slots__ = ("node_group", "replicas", "resource_shape", "scale_to_zero_s", "token_env")

    def __init__(
        self,
        *,
        resource_shape: str,
        node_group: str | None,
        replicas: int,
        token_env: str,
        scale_to_zero_s: int | None,
    ) -> None:
        self.resource_shape = resource_shape
        self.node_group = node_group
        self.replicas = replicas
        self.token_env = token_env
        self.scale_to_zero_s = scale_to_zero_s
        """None: it never scales to zero."""


def credentials_of(environ: Mapping[str, str]) -> Credentials:
    """From LEPTON_WORKSPACE_ID (`ID` or `ID:TOKEN`), LEPTON_AUTH_TOKEN or LEPTON_WORKSPACE_TOKEN, LEPTON_WORKSPACE_URL.

    Raises PreflightError `not_configured` naming what is missing.
    """
    workspace_id, _, token = environ.get("LEPTON_WORKSPACE_ID", "").strip().partition(":")
    given = (environ.get("LEPTON_AUTH_TOKEN") or environ.get("LEPTON_WORKSPACE_TOKEN") or "").strip()
    if not workspace_id and ":" in given:
        workspace_id, _, given = given.partition(":")
    token = given.removeprefix(f"{workspace_id}:") or token
    missing = [
        name for name, value in (("LEPTON_WORKSPACE_ID", workspace_id), ("LEPTON_AUTH_TOKEN", token)) if not value
    ]
    if missing:
        verb = "are" if len(missing) > 1 else "is"
        raise PreflightError(f"{' and '.join(missing)} {verb} not set", code="not_configured", hint=CREDENTIALS_HINT)
    url = environ.get("LEPTON_WORKSPACE_URL", "").strip().rstrip("/")
    return Credentials(workspace_id, token, url or None)


def wish_of(options: Mapping[str, Any], mounts: Iterable[str] = ()) -> Wish:
    """The platform's flags. Raises UsageError for one that is missing or cannot be."""
    shape = str(options.get("resource_shape") or "").strip().lower()
    if not shape:
        raise UsageError(
            "lepton needs --resource-shape: the machine that each replica gets",
            code="resource_shape_missing",
            hint="for example --resource-shape gpu.h100-sxm; a shape that is not there is answered with those that are",
        )
    for mount in mounts:
        raise UsageError(
            f"--mount {mount}: nothing of this machine can be mounted on lepton",
            hint="name a model with hf_model://, or use an image that has it",
        )
    scale_to_zero = options.get("scale_to_zero")
    return Wish(
        resource_shape=shape,
        node_group=options.get("node_group") or None,
        replicas=_replicas(options.get("replicas")),
        token_env=_token_env(options.get("token_env")),
        scale_to_zero_s=None if scale_to_zero is None else _whole_seconds(scale_to_zero),
    )


def endpoint_name(job_id: str) -> str:
    """`moorage-` and the first 24 characters of the job id, without the hyphen at the end that no name may have.

    A changed state file may hold any id: what could not be in a name must not become part of a path either.
    """
    return f"{NAME_PREFIX}{re.sub(r'[^a-z0-9-]', '-', job_id.lower())[:ID_CHARACTERS].rstrip('-')}"


def secret_name(job_id: str, variable: str) -> str:
    """The workspace's secret that holds the value of `variable` for this service."""
    return f"{secret_prefix(job_id)}{re.sub(r'[^a-z0-9]+', '-', variable.lower()).strip('-')}"


def secret_prefix(job_id: str) -> str:
    """What the names of all secrets of this service begin with, and those of no other."""
    return f"{endpoint_name(job_id)}-"


def manifest_of(
    submission: Submission, wish: Wish, *, owner: str, shared_memory_mib: int, first_check_after_s: int
) -> Json:
    """The endpoint, without the value of any secret.

    `wish.node_group` is an id here. `first_check_after_s`: how long the container may take before Lepton's own check of
    its port can restart it. A replica is started for good: as many at least as at most.
    """
    name = endpoint_name(submission.job_id)
    requirement: Json = {
        "resource_shape": wish.resource_shape,
        "min_replicas": wish.replicas,
        "max_replicas": wish.replicas,
        "shared_memory_size": shared_memory_mib,
    }
    if wish.node_group:
        requirement["affinity"] = {"allowed_dedicated_node_groups": [wish.node_group]}
    return {
        "metadata": {"id": name, "name": name},
        "spec": {
            "container": {
                "image": submission.image,
                "command": ["/bin/sh", "-c", submission.command],
                "ports": [{"container_port": submission.container_port}],
            },
            "resource_requirement": requirement,
            # The workspace's own default may be to scale to zero, and nothing wakes an endpoint up again.
            "auto_scaler": {"scale_down": {"no_traffic_timeout": wish.scale_to_zero_s or 0}},
            "health": {"liveness": {"initial_delay_seconds": first_check_after_s}},
            "envs": _envs(submission, owner),
            "api_tokens": [{"value": f"${{{wish.token_env}}}"}],
        },
    }


def with_key(manifest: Json, key: str, labels: Mapping[str, str]) -> Json:
    """What is sent: with the endpoint's key, and with labels where the API family takes them ({}: it does not)."""
    metadata = manifest["metadata"] | ({"labels": dict(labels)} if labels else {})
    return {"metadata": metadata, "spec": manifest["spec"] | {"api_tokens": [{"value": key}]}}


def labels_of(job_id: str, owner: str) -> dict[str, str]:
    """For the API family that takes labels."""
    return {JOB_LABEL: job_id, OWNER_LABEL: _label_value(owner)}


def entry_of(name: str, env: Mapping[str, str], labels: Mapping[str, str], *, owner: str) -> Entry | None:
    """Rebuild an entry from what an endpoint carries; None when it is none of ours, or another user's.

    `host_url` is what it was when the service was started: its status tells the one of now.
    """
    job_id = env.get(JOB_ENV) or labels.get(JOB_LABEL) or ""
    if not name.startswith(NAME_PREFIX) or endpoint_name(job_id) != name:
        return None
    if env.get(OWNER_ENV, owner) != owner or labels.get(OWNER_LABEL, _label_value(owner)) != _label_value(owner):
        return None
    return _label_entry(env.get(LABEL_ENV)) | {"job_id": job_id, "platform": "lepton", "platform_job_id": name}


def is_foreign(entry: Mapping[str, Any]) -> bool:
    """Whether an entry tells of something on Lepton that another tool started, under a name of its own."""
    named = entry.get("platform_job_id")
    return named is not None and named != endpoint_name(str(entry.get("job_id")))


def _envs(submission: Submission, owner: str) -> list[Json]:
    own = {
        JOB_ENV: submission.job_id,
        OWNER_ENV: owner,
        LABEL_ENV: json.dumps(submission.label, ensure_ascii=True, sort_keys=True),
    }
    plain: list[Json] = [{"name": name, "value": value} for name, value in (submission.env | own).items()]
    hidden: list[Json] = [
        {"name": name, "value_from": {"secret_name_ref": secret_name(submission.job_id, name)}}
        for name in submission.secret_env
    ]
    return plain + hidden


def _replicas(value: object) -> int:
    if value is None:
        return 1
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise UsageError(f"--replicas {value}: a whole number from 1 on")
    return value


def _token_env(value: object) -> str:
    """The name itself. What is no name may be the key, given by mistake, and is not shown."""
    if value is None:
        return DEFAULT_TOKEN_ENV
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", str(value)):
        raise UsageError(
            "--token-env wants the name of a variable, not the key itself", hint=f"for example {DEFAULT_TOKEN_ENV}"
        )
    return str(value)


def _whole_seconds(value: float) -> int:
    if not math.isfinite(value) or value <= 0:
        raise UsageError(f"--scale-to-zero {value:g}: more than 0 seconds")
    return math.ceil(value)


def _label_value(text: str) -> str:
    """As the value of a label may be: 63 characters, letters and digits at both ends."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text)[:63].strip("-._")


def _label_entry(text: str | None) -> Entry:
    try:
        entry = json.loads(text or "")
    except ValueError:
        return {}
    return entry if isinstance(entry, dict) else {}
