"""What objects of ours are called and how they are labelled in a cluster. Pure, and light: a listing imports it."""

from __future__ import annotations

import hashlib
import json
import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

    from moorage.launch.entry import Entry

JOB_LABEL = "moorage.job_id"
OWNER_LABEL = "moorage.owner"
MANAGER_LABEL = "app.kubernetes.io/managed-by"
MANAGER = "moorage"
TAO_LABEL = "tao-job"
"""The label that the TAO skill's jobs have."""
ENTRY_ANNOTATION = "moorage.entry"

LONGEST = 63
"""Characters of a name (RFC 1123) and of a label's value."""
MOST_NAMED = 40
"""Job ids that a selector names; a longer one would make an address that is too long for some proxies."""

LABEL_VALUE = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?", re.ASCII)
NAME = re.compile(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?", re.ASCII)
"""Of a service (RFC 1035): stricter than the names of other objects."""


def object_name(job_id: str) -> str:
    """Of the workload, its service and its secret: `moorage-JOB_ID`. An id that no name can hold gives its digest."""
    name = f"moorage-{job_id.lower()}"
    return name if NAME.fullmatch(name) else f"moorage-{_digest(job_id)}"


def pull_secret_name(job_id: str) -> str:
    return f"{object_name(job_id)[: LONGEST - 5].rstrip('-')}-pull"


def owner_of(user: str) -> str:
    """The user's name as a label's value; a digest where a label cannot hold it."""
    return user if LABEL_VALUE.fullmatch(user) else f"u-{_digest(user)}"


def labels_of(job_id: str, owner: str) -> dict[str, str]:
    """Of everything that one service is made of."""
    return {JOB_LABEL: job_id, TAO_LABEL: job_id, MANAGER_LABEL: MANAGER, OWNER_LABEL: owner}


def job_selector(job_id: str) -> str:
    return f"{JOB_LABEL}={job_id}"


def selector_of(job_ids: Iterable[str]) -> str:
    """A label selector for these services; for many, one for all of ours."""
    ids = [job_id for job_id in job_ids if LABEL_VALUE.fullmatch(job_id)]
    return f"{JOB_LABEL} in ({','.join(ids)})" if 0 < len(ids) <= MOST_NAMED else f"{MANAGER_LABEL}={MANAGER}"


def job_of(manifest: Mapping[str, Any]) -> str | None:
    """The job id of an object of ours; None when it is another's."""
    job_id = (manifest["metadata"].get("labels") or {}).get(JOB_LABEL)
    return str(job_id) if job_id else None


def entry_of(workload: Mapping[str, Any], *, context: str) -> Entry:
    """Rebuild an entry from a Deployment or Job: its annotation, corrected by where it was found."""
    metadata = workload["metadata"]
    try:
        entry = json.loads((metadata.get("annotations") or {}).get(ENTRY_ANNOTATION) or "")
    except ValueError:
        entry = None
    if not isinstance(entry, dict):
        entry = {"started_at": metadata.get("creationTimestamp"), "host_url": None, "host_port": None}
    place = {"namespace": metadata["namespace"], "context": context, "platform_job_id": metadata["name"]}
    return {**entry, "job_id": job_of(workload), "platform": "kubernetes", **place}


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:32]
