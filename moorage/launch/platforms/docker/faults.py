"""What a Docker engine says when something fails, as errors of ours: text in, error out, no effects.

Engines differ in wording between releases, so texts are matched by parts that stayed the same from 20.10 to 28.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from moorage.errors import (
    ConflictError,
    FailedError,
    MoorageError,
    PlatformUnreachable,
    PortTaken,
    PreflightError,
    UsageError,
)

START_ENGINE_HINT = "start it (sudo systemctl start docker) or point DOCKER_HOST at a running one"
NO_GPU_HINT = (
    "start with --gpus none to run without a GPU, or install the NVIDIA Container Toolkit and restart the engine"
)


class _Rule(NamedTuple):
    """The first rule with a part that is in the engine's text says which error it is."""

    parts: tuple[str, ...]
    error: type[MoorageError]
    code: str
    hint: str = ""


_RUN_RULES = (
    _Rule(("port is already allocated", "address already in use", "ports are not available"), PortTaken, "port_taken"),
    _Rule(("is already in use by container",), ConflictError, "name_taken", "moor stop, or docker rm, frees the name"),
    _Rule(("same bridge name", "network with name"), ConflictError, "network_taken", "docker network ls shows it"),
    _Rule(("bind source path does not exist",), PreflightError, "mount_missing", "create it, or correct --mount"),
    _Rule(("invalid mount", "mount denied", "duplicate mount point"), UsageError, "bad_mount", "correct --mount"),
    _Rule(
        ("unknown device", "unresolvable cdi device"),
        PreflightError,
        "gpu_missing",
        "nvidia-smi -L lists the GPUs: choose with --gpus IDS, or start with --gpus none",
    ),
    _Rule(
        (
            "could not select device driver",
            "unknown runtime",
            "unknown or invalid runtime",
            "nvidia-container-cli",
            "cdi device injection",
            "no known gpu vendor",
        ),
        PreflightError,
        "no_gpu",
        NO_GPU_HINT,
    ),
    _Rule(("no space left on device",), PreflightError, "disk_full", "docker system prune frees space"),
    _Rule(
        ("non-overlapping ipv4", "all predefined address pools"), PreflightError, "no_subnet", "docker network prune"
    ),
)

_PULL_RULES = (
    _Rule(
        ("pull access denied", "unauthorized", "authentication required", "no basic auth", "denied:", "forbidden"),
        PreflightError,
        "pull_denied",
    ),
    _Rule(
        ("manifest unknown", "not found", "no such image", "name unknown"),
        PreflightError,
        "image_missing",
        "check its name: moor image ARCH shows where it comes from",
    ),
    _Rule(("no matching manifest",), PreflightError, "image_platform", "the image is not built for this machine"),
    _Rule(("no space left on device",), PreflightError, "disk_full", "docker system prune frees space"),
)


def run_fault(text: str, *, what: str) -> MoorageError:
    """The error for a container or network that could not be made or started; `what` names it."""
    rule = _matching(_RUN_RULES, text)
    if rule is None:
        return FailedError(f"{what}: {text}", code="start_failed")
    return rule.error(f"{what}: {text}", code=rule.code, hint=rule.hint)


def pull_fault(text: str, *, image: str) -> PreflightError:
    """The error for an image that could not be pulled."""
    rule = _matching(_PULL_RULES, text)
    message = f"the image {image} could not be pulled: {text}"
    if rule is None:
        hint = (
            f"is {registry_of(image)} reachable from the engine? With a copy on this machine, --pull never needs none"
        )
        return PreflightError(message, code="pull_failed", hint=hint, next=[f"docker pull {image}"])
    if rule.code == "pull_denied":
        return _denied(message, image)
    return PreflightError(message, code=rule.code, hint=rule.hint, next=[f"docker pull {image}"])


def image_missing(image: str) -> PreflightError:
    """The image is not on the engine and must not be pulled."""
    return PreflightError(
        f"the image {image} is not on this Docker engine",
        code="image_missing",
        hint="pull it first, or let the start pull it with --pull missing",
        next=[f"docker pull {image}"],
    )


def unreachable(url: str, fault: BaseException) -> PlatformUnreachable:
    """The engine at `url` does not answer; the hint depends on how."""
    cause = _os_error_in(fault)
    if isinstance(cause, PermissionError):
        return PlatformUnreachable(
            f"no permission for the Docker engine at {url}",
            code="docker_permission",
            hint="join the docker group (sudo usermod -aG docker $USER) and log in again",
        )
    if isinstance(cause, FileNotFoundError | ConnectionRefusedError):
        return PlatformUnreachable(
            f"no Docker engine listens at {url}", code="docker_unreachable", hint=START_ENGINE_HINT
        )
    if cause is not None and not isinstance(cause, TimeoutError):
        return PlatformUnreachable(
            f"the Docker engine at {url} cannot be reached: {cause}", code="docker_unreachable", hint=START_ENGINE_HINT
        )
    return PlatformUnreachable(
        f"the Docker engine at {url} does not answer: {fault}", code="docker_unreachable", hint="is it overloaded?"
    )


def registry_of(image: str) -> str:
    """The registry's host as Docker reads it from an image's name: `docker.io` when none is named."""
    first, slash, _ = image.partition("/")
    named = bool(slash) and ("." in first or ":" in first or first == "localhost")
    return first if named else "docker.io"


def _matching(rules: tuple[_Rule, ...], text: str) -> _Rule | None:
    lower = text.lower()
    return next((rule for rule in rules if any(part in lower for part in rule.parts)), None)


def _denied(message: str, image: str) -> PreflightError:
    registry = registry_of(image)
    if registry != "nvcr.io":
        hint = f"log in to {registry} with an account that may read the image"
        return PreflightError(message, code="pull_denied", hint=hint, next=[f"docker login {registry}"])
    login = "printenv NGC_KEY | docker login nvcr.io --username '$oauthtoken' --password-stdin"
    hint = "log in with docker login nvcr.io: the user is $oauthtoken, the password your NGC API key (variable NGC_KEY)"
    return PreflightError(message, code="pull_denied", hint=hint, next=[login])


def _os_error_in(fault: BaseException) -> OSError | None:
    """The system's own error inside a chain of wrappers; HTTP libraries keep it in `args` or as the cause."""
    found = None
    for inner in _inside(fault, depth=8):
        if isinstance(inner, OSError) and (inner.errno is not None or isinstance(inner, TimeoutError)):
            found = inner
    return found


def _inside(fault: BaseException, depth: int) -> Iterator[BaseException]:
    yield fault
    if depth == 0:
        return
    for inner in (*fault.args, fault.__cause__):
        if isinstance(inner, BaseException):
            yield from _inside(inner, depth - 1)
