"""lepton: the service as an endpoint of a DGX Cloud Lepton workspace, with a key of its own and no scale to zero.

The endpoint's name comes from the job id, so that a start that was cut off anywhere can be found and undone. Lepton
calls an endpoint ready when its container runs: whether it serves, the server itself is asked, at the address that the
workspace gives once it has one.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence

from moorage.errors import ConflictError, MoorageError, PreflightError, TryAgainError, UsageError
from moorage.extras import install_command
from moorage.launch.platforms.lepton.spec import (
    DEFAULT_TOKEN_ENV,
    Wish,
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
from moorage.launch.platforms.lepton.states import SETTLED_PHASES, Clues, life_of
from moorage.launch.platforms.life import Check, Life

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from moorage.launch.entry import Entry
    from moorage.launch.platforms.base import Report, Submission
    from moorage.launch.platforms.lepton.client import LeptonClient
    from moorage.launch.platforms.lepton.states import Endpoint

ASK_S = 4.5
"""All that `status` may take."""
LEAST_ASK_S = 0.3
CLUES_AT_ONCE = 8
STOP_S = 60.0
SHOWN_S = 5.0
LOOK_EVERY_S = 0.3
SHOWN_NAMES = 20
FOREIGN = "another tool started it, under a name of its own"


class Lepton:
    """See the module."""

    name = "lepton"

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self._opened: LeptonClient | None = None

    def doctor(self) -> list[Check]:
        checks = [_check_package(), _check_key(self._environ)]
        try:
            credentials = credentials_of(self._environ)
        except MoorageError as fault:
            return [*checks, Check(name="lepton credentials", ok=False, message=fault.message, hint=fault.hint)]
        workspace = f"for the workspace {credentials.workspace_id}"
        checks.append(Check(name="lepton credentials", ok=True, message=workspace))
        try:
            client = self._client()
            client.limit(ASK_S)
            found, shapes = f"{client.workspace()}, at {client.host}", _listed(client.shapes())
        except MoorageError as fault:
            return [*checks, Check(name="lepton workspace", ok=False, message=fault.message, hint=fault.hint)]
        checks.append(Check(name="lepton workspace", ok=True, message=found))
        return [*checks, Check(name="lepton shapes", ok=True, message=shapes or "the workspace names none")]

    def plan(self, submission: Submission) -> dict[str, Any]:
        return {"manifests": [self._manifest(submission, wish_of(submission.options, submission.mounts))]}

    def preflight(self, submission: Submission, *, pull: str, report: Report) -> Entry:
        wish = wish_of(submission.options, submission.mounts)
        client = self._client()
        try:
            client.workspace()
            _check_shape(client.shapes(), wish, submission)
            group = _node_group_id(client.node_groups(), wish.node_group) if wish.node_group else None
        except TryAgainError as fault:
            doctor = "moor doctor --platform lepton"
            raise PreflightError(fault.message, code=fault.code, hint=fault.hint, next=[doctor]) from fault
        known = {"platform_job_id": endpoint_name(submission.job_id), "token_env": wish.token_env}
        return known | ({"node_group": group} if group else {})

    def submit(self, submission: Submission) -> Entry:
        from moorage.launch.interrupts import raise_if_interrupted
        from moorage.launch.service_key import service_key

        client = self._client()
        wish = wish_of(submission.options, submission.mounts)
        wish.node_group = submission.label.get("node_group") or wish.node_group
        manifest = self._manifest(submission, wish)
        key = service_key(wish.token_env, self._environ, make=True)
        name = endpoint_name(submission.job_id)
        if client.endpoint(name) is not None:
            raise ConflictError(
                f"the workspace has an endpoint {name} already",
                code="name_taken",
                hint="leave --job-id away to get a new one; moor recover finds a service that no entry tells of",
            )
        try:
            raise_if_interrupted()
            self._put_secrets(client, submission)
            raise_if_interrupted()
            labels = labels_of(submission.job_id, self._owner()) if client.takes_labels else {}
            self._create(client, with_key(manifest, key, labels))
            _await_shown(client, name)
        except ConflictError:
            _remove_secrets(client, submission.job_id)  # an endpoint of that name came in between: it has none of ours
            raise
        except MoorageError:
            self._try_stop(submission)
            raise
        return {}

    def status(self, entries: Sequence[Entry]) -> dict[str, Life]:
        ids = [str(entry["job_id"]) for entry in entries]
        if not ids:
            return {}
        deadline = time.monotonic() + ASK_S
        try:
            client = self._client()
            client.limit(ASK_S)
            client.choose_family()
            client.limit(_left_s(deadline))
            listed = client.endpoints()
        except MoorageError as fault:
            return {job_id: Life(state="unknown", detail=fault.message) for job_id in ids}
        client.limit(_left_s(deadline))
        from concurrent.futures import ThreadPoolExecutor

        with ThreadPoolExecutor(min(CLUES_AT_ONCE, len(ids))) as pool:
            lives = pool.map(lambda entry: _life(client, entry, listed), entries)
            return dict(zip(ids, lives, strict=True))

    def logs(self, entry: Entry, *, tail: int | None, follow: bool) -> Iterator[str]:
        from moorage.launch.platforms.lepton.logs import follow_lines, read_lines

        _refuse_foreign(entry)
        client = self._client()
        client.limit(ASK_S)
        name = endpoint_name(str(entry["job_id"]))
        if not follow:
            return iter(read_lines(client, name, tail=tail))
        return follow_lines(client, name, tail=tail, is_over=lambda: self._is_over(entry))

    def stop(self, entry: Entry) -> str | None:
        _refuse_foreign(entry)
        client = self._client()
        job_id = str(entry["job_id"])
        name = endpoint_name(job_id)
        client.delete(name)
        deadline = time.monotonic() + STOP_S
        while client.endpoint(name) is not None:
            if time.monotonic() > deadline:
                raise TryAgainError(
                    f"the endpoint {name} is being deleted for {STOP_S:g} s and is still there",
                    code="still_deleting",
                    hint="stop it again later, or look at the workspace's dashboard",
                )
            time.sleep(LOOK_EVERY_S)
        _remove_secrets(client, job_id)
        return None

    def find(self) -> list[Entry]:
        owner = self._owner()
        found = (entry_of(one.name, one.env, one.labels, owner=owner) for one in self._client().endpoints().values())
        return [entry for entry in found if entry is not None]

    def _client(self) -> LeptonClient:
        """The workspace, with patience for one call. Raises PreflightError: not configured, or no package."""
        from moorage.launch.platforms.lepton.client import CALL_TIMEOUT_S, LeptonClient

        if self._opened is None:
            self._opened = LeptonClient(credentials_of(self._environ))
        self._opened.limit(CALL_TIMEOUT_S)
        return self._opened

    def _manifest(self, submission: Submission, wish: Wish) -> dict[str, Any]:
        from moorage.catalog.bundle import bundle_root
        from moorage.catalog.catalog import load_catalog
        from moorage.launch.platforms.docker.container import size_in_bytes

        service = load_catalog(bundle_root(self._environ)).service
        return manifest_of(
            submission,
            wish,
            owner=self._owner(),
            shared_memory_mib=size_in_bytes(service.docker_run_reference.shm_size) >> 20,
            first_check_after_s=round(service.readiness.wait_s),
        )

    def _owner(self) -> str:
        """Whose services they are: a workspace is shared, and shows nobody who asks."""
        import os
        import pwd

        try:
            return pwd.getpwuid(os.getuid()).pw_name
        except KeyError:
            return str(os.getuid())

    def _put_secrets(self, client: LeptonClient, submission: Submission) -> None:
        if not submission.secret_env:
            return
        _remove_secrets(client, submission.job_id)  # of an earlier start with this id, cut off before its endpoint
        client.create_secrets({secret_name(submission.job_id, name): it for name, it in submission.secret_env.items()})

    def _create(self, client: LeptonClient, manifest: dict[str, Any]) -> None:
        try:
            client.create(manifest)
        except PreflightError as fault:
            if "label" not in fault.message.lower() or not manifest["metadata"].pop("labels", None):
                raise
            client.create(manifest)

    def _try_stop(self, submission: Submission) -> None:
        """After a failure whose error counts: whoever undoes the start tries again, and tells what stays."""
        try:
            self.stop({"job_id": submission.job_id})
        except MoorageError:
            return

    def _is_over(self, entry: Entry) -> bool:
        life = self.status([entry])[str(entry["job_id"])]
        return life.state == "exited" or life.outlook == "failed"


def _check_package() -> Check:
    from importlib.util import find_spec

    if find_spec("leptonai") is None:
        return Check(
            name="lepton package", ok=False, message="leptonai is not installed", hint=install_command("lepton")
        )
    return Check(name="lepton package", ok=True, message="leptonai is installed")


def _check_key(environ: Mapping[str, str]) -> Check:
    """Whether a service that is started now would get a key; one that is missing is made."""
    from moorage.launch.service_key import service_key

    try:
        service_key(DEFAULT_TOKEN_ENV, environ, make=False)
    except PreflightError as fault:
        if fault.code != "service_key_missing":
            return Check(name="service key", ok=False, message=fault.message, hint=fault.hint)
        return Check(name="service key", ok=True, message="is made by the first start")
    return Check(name="service key", ok=True, message=f"of {DEFAULT_TOKEN_ENV}, or kept beside the state file")


def _life(client: LeptonClient, entry: Entry, listed: Mapping[str, Endpoint]) -> Life:
    if is_foreign(entry):
        return Life(state="unknown", detail=FOREIGN)
    name = endpoint_name(str(entry["job_id"]))
    try:
        # The SDK leaves out of a list what it cannot read: what is missing there need not be gone.
        found = listed.get(name) or client.endpoint(name)
    except MoorageError as fault:
        return Life(state="unknown", detail=fault.message)
    settled = found is None or found.phase in SETTLED_PHASES
    clues = Clues() if settled else client.clues(name)
    was_ready = bool(entry.get("ready_at")) or entry.get("state") == "ready"
    return life_of(found, clues, now_s=time.time(), was_ready=was_ready)


def _await_shown(client: LeptonClient, name: str) -> None:
    """A workspace may need a moment until it knows what it accepted; till then it would count as gone."""
    from moorage.launch.interrupts import raise_if_interrupted

    deadline = time.monotonic() + SHOWN_S
    while client.endpoint(name) is None and time.monotonic() < deadline:
        raise_if_interrupted()
        time.sleep(LOOK_EVERY_S)


def _refuse_foreign(entry: Entry) -> None:
    if is_foreign(entry):
        raise UsageError(
            f"the service {entry['job_id']} is {entry['platform_job_id']!r} on lepton: {FOREIGN}",
            code="foreign_service",
            hint="stop it with the tool that started it, then forget its entry",
            next=[f"moor prune --forget {entry['job_id']}"],
        )


def _remove_secrets(client: LeptonClient, job_id: str) -> None:
    prefix = secret_prefix(job_id)
    for name in client.secret_names():
        if name.startswith(prefix):
            client.delete_secret(name)


def _check_shape(shapes: Mapping[str, float], wish: Wish, submission: Submission) -> None:
    if not shapes:
        return  # a workspace that names none is asked when the endpoint is made
    if wish.resource_shape not in shapes:
        raise PreflightError(
            f"the workspace has no resource shape {wish.resource_shape!r}",
            code="no_such_shape",
            hint=f"it has {_listed(shapes)}",
        )
    accelerators = shapes[wish.resource_shape]
    if submission.gpus != "none" and 0 < accelerators < submission.num_gpus:
        raise PreflightError(
            f"--num-gpus {submission.num_gpus}, and {wish.resource_shape} has {accelerators:g}",
            code="shape_too_small",
            hint=f"the workspace has {_listed(shapes)}",
        )


def _node_group_id(groups: Mapping[str, str], wanted: str) -> str:
    if wanted not in groups:
        raise PreflightError(
            f"the workspace has no node group {wanted!r}",
            code="no_such_node_group",
            hint=f"it has {_listed(groups) or 'none'}",
        )
    return groups[wanted]


def _listed(names: Mapping[str, Any]) -> str:
    """Names, and not too many of them."""
    more = f" and {len(names) - SHOWN_NAMES} more" if len(names) > SHOWN_NAMES else ""
    return ", ".join(sorted(names)[:SHOWN_NAMES]) + more


def _left_s(deadline: float) -> float:
    return max(LEAST_ASK_S, deadline - time.monotonic())
