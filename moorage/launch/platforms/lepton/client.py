"""The official SDK, and the only file that imports it: one workspace, through either family of its API.

The SDK chooses the family by asking the workspace three times, and takes the older one when that fails; here the
workspace is asked once, and a failure is told. Where the SDK's own types lose what we need (the words of an event,
bytes of a log that are no UTF-8), its session is asked for the same path and the plain answer is read.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator, Mapping
from urllib.parse import urlsplit

from moorage.errors import MoorageError, PreflightError
from moorage.extras import install_command, upgrade_command
from moorage.launch.platforms.lepton.faults import error_of, status_of
from moorage.launch.platforms.lepton.spec import Credentials
from moorage.launch.platforms.lepton.states import Clues, Endpoint, crashes_in, ends_in, issues_in, phase_of, url_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

CALL_TIMEOUT_S = 30.0
LOG_CONNECT_S = 5.0


class LeptonClient:
    """One workspace. Every method raises MoorageError: PlatformUnreachable when it does not answer."""

    def __init__(self, credentials: Credentials) -> None:
        """Raises PreflightError when the package is missing."""
        self._sdk = _open(credentials)
        self._api: Any = None
        self._host = urlsplit(str(self._sdk.url)).netloc.rpartition("@")[2]
        self.limit(CALL_TIMEOUT_S)

    @property
    def host(self) -> str:
        """Of the workspace's API."""
        return self._host

    @property
    def takes_labels(self) -> bool:
        """Whether the workspace's API family keeps labels of endpoints."""
        return self._path == "/deployments"

    def limit(self, timeout_s: float) -> None:
        """How long one call may take from here on."""
        self._sdk._timeout = timeout_s  # the SDK has no public way, and its own limit is two minutes

    def workspace(self) -> str:
        """The workspace's name, and in which state it is: `vision, normal`."""
        with self._asking("the workspace"):
            info = self._sdk.info()
        self._choose(info)
        return f"{info.workspace_name}, {info.workspace_state.value}"

    def choose_family(self) -> None:
        """Ask the workspace which family of its API it wants, unless that is known: then nothing is asked."""
        if self._api is None:
            self.workspace()

    def endpoints(self) -> dict[str, Endpoint]:
        """Name → endpoint, of all that the SDK can read."""
        with self._asking("listing endpoints"), _no_talk():
            found = [_endpoint_of(one) for one in self._family.list_all()]
        return {one.name: one for one in found}

    def endpoint(self, name: str) -> Endpoint | None:
        """One endpoint; None when there is none."""
        with self._asking(f"asking for {name}"):
            try:
                return _endpoint_of(self._family.get(name))
            except Exception as fault:
                if status_of(fault) == 404:
                    return None
                raise

    def create(self, manifest: dict[str, Any]) -> None:
        """Raises ConflictError when the name is taken."""
        hidden = [token["value"] for token in manifest["spec"]["api_tokens"]]
        with self._asking(f"creating {manifest['metadata']['name']}", hidden):
            from leptonai.api.v2.types.deployment import LeptonDeployment  # type: ignore[import-untyped]

            self._family.create(LeptonDeployment(**manifest))

    def delete(self, name: str) -> None:
        """Ask for its end; one that is gone is success."""
        with self._asking(f"deleting {name}"):
            try:
                self._family.delete(name)
            except Exception as fault:
                if status_of(fault) != 404:
                    raise

    def clues(self, name: str) -> Clues:
        """Why it is not ready. What the workspace does not tell is left out; nothing is raised."""
        events = self._try_json(name, "events")
        if self.takes_labels:
            crashes = crashes_in(self._try_json(name, "termination"))
            issues = list(issues_in(self._try_json(name, "readiness")))
        else:  # this family tells both in the status of each replica
            replicas = [one for one in self._try_json(name, "replicas") or [] if isinstance(one, Mapping)]
            status = {str(one.get("id")): one.get("status") for one in replicas}
            crashes = {replica: ends for replica, value in status.items() if (ends := list(ends_in(value)))}
            issues = [issue for value in status.values() for issue in issues_in(value)]
        return Clues(crashes=crashes, issues=issues, events=[one for one in events or [] if isinstance(one, Mapping)])

    def replicas(self, name: str) -> list[str]:
        """Ids of its replicas; [] for an endpoint that is gone."""
        with self._asking(f"listing the replicas of {name}"), _no_talk():
            try:
                return [str(one.metadata.id_ or one.id_) for one in self._family.get_replicas(name)]
            except Exception as fault:
                if status_of(fault) == 404:
                    return []
                raise

    def log(self, name: str, replica: str, *, quiet_s: float) -> Iterator[bytes]:
        """What a replica wrote, from the beginning, in pieces; goes on as it writes.

        Ends when the workspace ends it, when nothing came for `quiet_s`, and when the connection breaks.
        """
        path = f"{self._path}/{name}/replicas/{replica}/log"
        with self._asking(f"reading the log of {name}"):
            try:
                # The SDK's own reader decodes each piece apart, and fails on what is cut in the middle.
                answer = self._sdk._get(path, stream=True, timeout=(LOG_CONNECT_S, quiet_s))
            except OSError as fault:
                if "Read timed out" in str(fault):
                    return
                raise
        with answer:
            if answer.status_code == 404:
                return
            with self._asking(f"reading the log of {name}"):
                self._family._raise_if_not_ok(answer)
            # Pieces as they come; without chunks there is no telling where one ends.
            size = None if "chunked" in answer.headers.get("Transfer-Encoding", "") else 1
            with contextlib.suppress(OSError):
                yield from answer.iter_content(chunk_size=size)

    def secret_names(self) -> list[str]:
        """Of the whole workspace."""
        with self._asking("listing secrets"), _no_talk():
            return [one.name for one in self._sdk.secret.list_all()]

    def create_secrets(self, values: Mapping[str, str]) -> None:
        """Name → value. Raises ConflictError when one is there."""
        if not values:
            return
        with self._asking("creating secrets", list(values.values())):
            from leptonai.api.v2.types.secret import SecretItem  # type: ignore[import-untyped]

            self._sdk.secret.create([SecretItem(name=name, value=value) for name, value in values.items()])

    def delete_secret(self, name: str) -> None:
        """One that is gone is success."""
        with self._asking(f"deleting the secret {name}"):
            try:
                self._sdk.secret.delete(name)
            except Exception as fault:
                if status_of(fault) != 404:
                    raise

    def shapes(self) -> dict[str, float]:
        """Name of a resource shape, in lower case → accelerators in it."""
        with self._asking("listing resource shapes"), _no_talk():
            shapes = self._sdk.shapes.list_shapes(purpose="deployment")
        found: dict[str, float] = {}
        for shape in shapes:
            for name in (shape.metadata.id_, shape.metadata.name, shape.spec.name):
                if name:
                    found[name.lower()] = shape.spec.accelerator_num or 0.0
        return found

    def node_groups(self) -> dict[str, str]:
        """Name of a dedicated node group, or its id → its id."""
        with self._asking("listing node groups"), _no_talk():
            groups = self._sdk.nodegroup.list_all()
        return {
            name: str(group.metadata.id_ or group.metadata.name)
            for group in groups
            for name in (group.metadata.id_, group.metadata.name)
            if name
        }

    @property
    def _family(self) -> Any:
        """The SDK's deployments or endpoints, as the workspace wants it."""
        self.choose_family()
        return self._api

    @property
    def _path(self) -> str:
        from leptonai.api.v2.deployment import DeploymentAPI  # type: ignore[import-untyped]

        return "/deployments" if isinstance(self._family, DeploymentAPI) else "/endpoints"

    def _choose(self, info: Any) -> None:
        from leptonai.api.v2.deployment import DeploymentAPI

        if getattr(getattr(info, "features", None), "enable_new_deployment_api", None) is not True:
            self._api = DeploymentAPI(self._sdk)
            return
        try:
            from leptonai.api.v2.endpoint import EndpointAPI  # type: ignore[import-untyped]
        except ImportError:
            raise PreflightError(
                "the workspace wants a newer leptonai than the one that is installed",
                code="leptonai_too_old",
                hint="install a newer one",
                next=[upgrade_command("leptonai")],
            ) from None
        self._api = EndpointAPI(self._sdk)

    def _try_json(self, name: str, part: str) -> Any:
        try:
            with self._asking(f"asking for the {part} of {name}"):
                return self._family.ensure_json(self._sdk._get(f"{self._path}/{name}/{part}"))
        except MoorageError:
            return None

    @contextlib.contextmanager
    def _asking(self, what: str, hidden: list[str] | None = None) -> Iterator[None]:
        """Errors of ours for those of the SDK."""
        try:
            yield
        except MoorageError:
            raise
        except Exception as fault:
            # from None: what the SDK raised may hold what was sent
            raise error_of(fault, what, host=self._host, hidden=hidden or ()) from None


def _no_talk() -> contextlib.redirect_stderr[io.StringIO]:
    """The SDK prints each item of a list that it cannot read, as a whole."""
    return contextlib.redirect_stderr(io.StringIO())


def _open(credentials: Credentials) -> Any:
    try:
        import leptonai.api.v2.client as sdk  # type: ignore[import-untyped]
        from loguru import logger
    except ImportError:
        raise PreflightError(
            "lepton needs the package leptonai, which is not installed",
            code="leptonai_package_missing",
            hint="the extra moorage[lepton] has it",
            next=[install_command("lepton")],
        ) from None
    except Exception as fault:  # it reads the file that `lep login` writes
        raise PreflightError(
            f"the package leptonai cannot be loaded ({type(fault).__name__})",
            code="leptonai_broken",
            hint="look at ~/.cache/lepton/workspace_info.yaml, and take it away",
        ) from None
    logger.disable("leptonai")
    return sdk.APIClient(credentials.workspace_id, credentials.token, credentials.url)


def _endpoint_of(one: Any) -> Endpoint:
    """From the SDK's type, which both families are translated into."""
    status, spec = one.status, one.spec
    address = status.endpoint.external_endpoint if status is not None and status.endpoint is not None else None
    return Endpoint(
        name=str(one.metadata.name or one.metadata.id_),
        phase=phase_of(status.state.value, status.phase.value if status.phase else None) if status else "UNK",
        url=url_of(address),
        env={var.name: var.value for var in (spec.envs if spec else None) or [] if var.value is not None},
        labels=dict((one.metadata.labels if one.metadata else None) or {}),
    )
