"""kubernetes: the service as a Deployment (or Job) of one pod, with a Service and, for secrets, a Secret.

All is named and labelled by the job id, and all belongs to the workload, so that the cluster removes it with that. The
workload is made first and makes no pod until the rest is there: wherever a start is cut off, `stop` finds everything
by name. What is asked of the cluster is in `client`, what its answers mean in `states`.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence

from moorage.errors import MoorageError, PreflightError, TryAgainError
from moorage.launch.platforms.kubernetes.look import by_place, is_ours, kind_of, look
from moorage.launch.platforms.kubernetes.names import (
    MANAGER,
    MANAGER_LABEL,
    OWNER_LABEL,
    entry_of,
    job_of,
    job_selector,
    object_name,
    owner_of,
    pull_secret_name,
)
from moorage.launch.platforms.kubernetes.states import address_fields, container_port, life_of, tunnel_route
from moorage.launch.platforms.life import Check, Life

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from moorage.launch.entry import Entry
    from moorage.launch.platforms.base import Report, Submission
    from moorage.launch.platforms.kubernetes.client import Cluster
    from moorage.launch.platforms.kubernetes.options import KubernetesOptions

ASK_TIMEOUT_S = 5.0
"""For one answer where many services are looked at."""
GONE_WITHIN_S = 120.0
GONE_EVERY_S = 0.25


class Kubernetes:
    """See the module. KUBECONFIG, TAO_K8S_CONTEXT and TAO_K8S_NAMESPACE in `environ` say which cluster and where."""

    name = "kubernetes"

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ

    def doctor(self) -> list[Check]:
        from moorage.launch.platforms.docker.checks import package_check

        checks = [package_check("kubernetes", "kubernetes")]
        try:
            from moorage.launch.platforms.kubernetes.checks import cluster_checks

            options = self._options({})
            cluster = self._open(options.context, timeout_s=ASK_TIMEOUT_S)
            return [*checks, *cluster_checks(cluster, options)]
        except MoorageError as fault:
            return [*checks, Check(name="kubeconfig", ok=False, message=fault.message, hint=fault.hint)]

    def plan(self, submission: Submission) -> dict[str, Any]:
        return {"manifests": self._manifests(submission, self._options(submission.options))}

    def preflight(self, submission: Submission, *, pull: str, report: Report) -> Entry:
        from moorage.launch.platforms.kubernetes.checks import (
            needs_secrets,
            require_named,
            require_namespace,
            require_rights,
        )

        options = self._options(submission.options)
        self._manifests(submission, options)
        self._secret_values(submission, options)
        cluster = self._open(options.context)
        require_namespace(cluster, options.namespace)
        require_rights(cluster, options, with_secrets=needs_secrets(submission, options))
        require_named(cluster, options)
        return {
            "context": cluster.context,
            "namespace": options.namespace,
            "access": options.access,
            "platform_job_id": object_name(submission.job_id),
            "pull": pull,
            **({"as_job": True} if options.as_job else {}),
        }

    def submit(self, submission: Submission) -> Entry:
        entry = dict(submission.label)
        options = self._options(submission.options)._replace(
            namespace=str(entry["namespace"]), context=entry.get("context")
        )
        manifests = self._manifests(submission, options)
        values = self._secret_values(submission, options)
        cluster = self._open(options.context)
        fields: Entry = {}
        if options.access == "port-forward" and submission.port is not None:
            fields["tunnel"] = self._start_tunnel(submission, entry)
        try:
            self._create(cluster, options.namespace, manifests, values)
        except BaseException:
            if fields:
                self._end_tunnel({**entry, **fields})  # and none of another service that has this id
            raise
        return fields

    def status(self, entries: Sequence[Entry]) -> dict[str, Life]:
        lives: dict[str, Life] = {}
        for context, namespace, group in by_place(entries, namespace=self._namespace()):
            try:
                cluster = self._open(context, timeout_s=ASK_TIMEOUT_S)
                found, now_s = look(cluster, namespace, group)
            except MoorageError as fault:
                lives |= {str(entry["job_id"]): self._unknown(entry, fault) for entry in group}
                continue
            for entry in group:
                mine = found[str(entry["job_id"])]
                life = life_of(mine, entry, now_s=now_s)
                lives[str(entry["job_id"])] = self._with_tunnel(entry, life, container_port(mine))
        return lives

    def logs(self, entry: Entry, *, tail: int | None, follow: bool) -> Iterator[str]:
        from moorage.launch.platforms.kubernetes.logs import follow_log, read_log

        read = follow_log if follow else read_log
        return read(self._open(entry.get("context")), self._namespace_of(entry), entry, tail=tail)

    def stop(self, entry: Entry) -> None:
        cluster, namespace = self._open(entry.get("context")), self._namespace_of(entry)
        self._remove(cluster, namespace, entry)
        self._await_gone(cluster, namespace, entry)
        self._end_tunnel(entry)

    def find(self) -> list[Entry]:
        from moorage.launch.platforms.kubernetes.options import read_options

        options = read_options({}, self._environ)
        cluster = self._open(options.context)
        selector = f"{MANAGER_LABEL}={MANAGER},{OWNER_LABEL}={owner_of(_user())}"
        entries = []
        for kind in ("deployments", "jobs"):
            for workload in self._list_anywhere(cluster, options.namespace, kind, selector):
                if job_of(workload) and not workload["metadata"].get("deletionTimestamp"):
                    entries.append(entry_of(workload, context=cluster.context))
        for _, namespace, group in by_place(entries, namespace=options.namespace):
            found, _ = look(cluster, namespace, group)
            for entry in group:
                entry |= address_fields(found[str(entry["job_id"])], entry)
        return entries

    def _options(self, given: Mapping[str, Any]) -> KubernetesOptions:
        from moorage.launch.platforms.kubernetes.options import read_options

        return read_options(given, self._environ)

    def _namespace(self) -> str:
        from moorage.launch.platforms.kubernetes.options import namespace_of

        return namespace_of(self._environ)

    def _namespace_of(self, entry: Entry) -> str:
        return str(entry.get("namespace") or self._namespace())

    def _open(self, context: str | None, *, timeout_s: float | None = None) -> Cluster:
        from moorage.launch.platforms.kubernetes.client import ANSWER_S, open_cluster

        context = context or self._environ.get("TAO_K8S_CONTEXT")
        return open_cluster(self._environ, context, timeout_s=timeout_s or ANSWER_S)

    def _manifests(self, submission: Submission, options: KubernetesOptions) -> list[dict[str, Any]]:
        from moorage.launch.platforms.docker.container import size_in_bytes
        from moorage.launch.platforms.docker.reference import load_service
        from moorage.launch.platforms.kubernetes.manifests import make_manifests
        from moorage.launch.platforms.kubernetes.options import check_submission

        check_submission(submission.job_id, submission.gpus, submission.runtime)
        shm_bytes = size_in_bytes(load_service(self._environ).docker_run_reference.shm_size)
        pull = str(submission.label.get("pull") or "missing")
        return make_manifests(submission, options, owner=owner_of(_user()), pull=pull, shm_bytes=shm_bytes)

    def _secret_values(self, submission: Submission, options: KubernetesOptions) -> dict[str, dict[str, str]]:
        """Name of the secret → its values. Raises PreflightError when a variable is not set."""
        from moorage.launch.platforms.docker.faults import registry_of
        from moorage.launch.platforms.kubernetes.manifests import DOCKER_CONFIG, docker_config
        from moorage.launch.platforms.kubernetes.options import registry_login

        values = {object_name(submission.job_id): dict(submission.secret_env)}
        if options.image_pull_key_env:
            registry = registry_of(submission.image)
            login = registry_login(submission.image, registry, options.image_pull_key_env, self._environ)
            values[pull_secret_name(submission.job_id)] = {DOCKER_CONFIG: docker_config(registry, *login)}
        return values

    def _create(
        self,
        cluster: Cluster,
        namespace: str,
        manifests: Sequence[dict[str, Any]],
        values: Mapping[str, Mapping[str, str]],
    ) -> None:
        from moorage.launch.platforms.kubernetes.client import path_of
        from moorage.launch.platforms.kubernetes.manifests import at_rest, owned_by, run_patch, with_values

        kind = "jobs" if manifests[0]["kind"] == "Job" else "deployments"
        workload = cluster.create(path_of(namespace, kind), at_rest(manifests[0]))
        try:
            workload = {**manifests[0], "metadata": workload["metadata"]}  # answers leave kind and version away
            for manifest in manifests[1:]:
                owned = owned_by(manifest, workload)
                if manifest["kind"] == "Secret":
                    secret = with_values(owned, values[manifest["metadata"]["name"]])
                    cluster.create(path_of(namespace, "secrets"), secret)
                else:
                    cluster.create(path_of(namespace, "services"), owned)
            cluster.patch(path_of(namespace, kind, workload["metadata"]["name"]), run_patch(workload))
        except BaseException:
            self._take_back(cluster, namespace, kind, workload["metadata"]["name"])
            raise

    def _take_back(self, cluster: Cluster, namespace: str, kind: str, name: str) -> None:
        """What was made belongs to the workload and goes with it."""
        from moorage.launch.platforms.kubernetes.client import path_of

        try:
            cluster.delete(path_of(namespace, kind, name), propagation="Background")
        except MoorageError:
            return  # the fault that led here is told, and a stop of the entry tries again

    def _remove(self, cluster: Cluster, namespace: str, entry: Entry) -> None:
        """Ask for the deletion of everything that a start makes. Only the workload must be ours to delete."""
        from moorage.launch.platforms.kubernetes.client import path_of

        job_id, kind = str(entry["job_id"]), kind_of(entry)
        name = object_name(job_id) if is_ours(entry) else str(entry["platform_job_id"])
        cluster.delete(path_of(namespace, kind, name), propagation="Foreground")
        others = [("services", name)]
        if is_ours(entry):
            others += [("deployments" if kind == "jobs" else "jobs", name)]
            others += [("secrets", name), ("secrets", pull_secret_name(job_id))]
        for other, other_name in others:
            try:
                cluster.delete(path_of(namespace, other, other_name), propagation="Background")
            except PreflightError as fault:
                if fault.code != "forbidden":
                    raise

    def _await_gone(self, cluster: Cluster, namespace: str, entry: Entry) -> None:
        deadline = time.monotonic() + GONE_WITHIN_S
        while True:
            found, _ = look(cluster, namespace, [entry])
            mine = found[str(entry["job_id"])]
            if mine.workload is None and mine.service is None and not mine.pods:
                return
            if time.monotonic() > deadline:
                pods = [f"pod {pod['metadata']['name']} on {pod['spec'].get('nodeName')}" for pod in mine.pods]
                raise TryAgainError(
                    f"{', '.join(pods) or object_name(str(entry['job_id']))} is not gone after {GONE_WITHIN_S:g} s",
                    code="not_gone",
                    hint="its deletion is asked for; is its node up?",
                    next=[f"kubectl -n {namespace} get all -l {job_selector(str(entry['job_id']))}"],
                )
            time.sleep(GONE_EVERY_S)

    def _list_anywhere(self, cluster: Cluster, namespace: str, kind: str, selector: str) -> list[dict[str, Any]]:
        """In every namespace where that is allowed, else in the configured one."""
        try:
            return cluster.items(None, kind, labelSelector=selector)
        except PreflightError as fault:
            if fault.code != "forbidden":
                raise
        try:
            return cluster.items(namespace, kind, labelSelector=selector)
        except PreflightError as fault:
            if fault.code != "forbidden":
                raise
            return []

    def _start_tunnel(self, submission: Submission, entry: Entry) -> dict[str, Any]:
        from moorage.launch.tunnel.tunnels import TunnelSpec, start_tunnel

        route = tunnel_route(entry, submission.container_port)
        return start_tunnel(TunnelSpec(submission.job_id, submission.port, route), self._environ)

    def _with_tunnel(self, entry: Entry, life: Life, port: int) -> Life:
        if entry.get("access") != "port-forward" or life.state != "alive" or not entry.get("host_port"):
            return life
        from moorage.launch.tunnel.tunnels import TunnelSpec, see_tunnel

        field, runs = see_tunnel(entry, self._environ)
        fields = {**life.fields, "tunnel": field} if field else life.fields
        spec = TunnelSpec(str(entry["job_id"]), entry["host_port"], tunnel_route(entry, port))
        lost = None if runs else spec
        return Life(state=life.state, detail=life.detail, outlook=life.outlook, fields=fields, lost_tunnel=lost)

    def _unknown(self, entry: Entry, fault: MoorageError) -> Life:
        fields: dict[str, Any] = {}
        if entry.get("access") == "port-forward":
            from moorage.launch.tunnel.tunnels import tunnel_now

            fields["tunnel"] = tunnel_now(entry, self._environ)
        return Life(state="unknown", detail=fault.message, fields=fields)

    def _end_tunnel(self, entry: Entry) -> None:
        if entry.get("access") in (None, "port-forward"):
            from moorage.launch.tunnel.tunnels import end_tunnel

            end_tunnel(entry, self._environ)


def _user() -> str:
    """Who starts services here, as other machines of the same user would say it too."""
    import os
    import pwd

    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())
