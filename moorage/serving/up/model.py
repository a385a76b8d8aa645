"""The first user and the first model: `models/nano`, declared as any user would."""

from __future__ import annotations

import shutil
from contextlib import suppress
from pathlib import Path

from moorage.client.serving.client import ServingClient
from moorage.client.serving.settling import wait_until_settled
from moorage.client.serving.values import Detail
from moorage.errors import ConflictError, FailedError, MoorageError, PreflightError
from moorage.launch.interrupts import raise_if_interrupted
from moorage.launch.platforms.base import Report
from moorage.serving.up.place import Place

__all__ = ["SUFFIX", "USER", "admin_client", "await_model", "declare_model", "lay_model", "user_token"]

USER = "demo"
SUFFIX = "nano"
KWARGS = {
    "max_model_len": 2048,
    "max_num_seqs": 16,
    "enforce_eager": True,
    "enable_auto_tool_choice": True,
    "tool_call_parser": "hermes",
    "reasoning_parser": "qwen3",
}
CPU_KWARGS = {"num_gpu_blocks_override": 512}
"""Room for all its requests; without it the cache takes a gigabyte that is filled with zeros first."""
GONE_WITHIN_S = 120.0


def lay_model(bundle: Path, root: Path) -> Path:
    """Put models/nano where every user may read it, when it is not there yet; where it is.

    Raises PreflightError when it cannot be put there.
    """
    place = root / "hf" / "nano"
    try:
        for folder in ("hf", "datasets", f"users/{USER}"):
            (root / folder).mkdir(parents=True, exist_ok=True)
        if not (place / "config.json").is_file():
            shutil.copytree(bundle / "models" / "nano", place, dirs_exist_ok=True)
    except OSError as fault:
        raise PreflightError(
            f"the model cannot be put into {place}: {fault.strerror or fault}",
            code="root_unusable",
            hint="choose another folder with --root",
        ) from fault
    return place


def admin_client(api_url: str, place: Place) -> ServingClient:
    """The API as its administrator."""
    return ServingClient(api_url, token=place.token("admin") or "none", patience_s=5.0)


def user_token(api_url: str, place: Place) -> str:
    """The first user's token: the one that is kept, when it is still good, else a new one."""
    kept = place.token("user")
    if kept is not None and _is_good(api_url, kept):
        return kept
    with admin_client(api_url, place) as admin:
        with suppress(ConflictError):
            admin.create_user(USER)
        made = admin.create_token(USER)
    place.keep_token("user", made.token)
    return made.token


def declare_model(api_url: str, token: str, source: Path, *, gpu: bool) -> str:
    """Declare it; its key. One that is declared already is left as its user made it; one that failed is made anew."""
    with ServingClient(api_url, token=token) as client:
        for model in client.models():
            if model.model_id_suffix != SUFFIX:
                continue
            if model.state not in ("FAILED", "DELETING"):
                return model.model_key
            client.delete(model.model_key)
            wait_until_settled(client.model, model.model_key, timeout_s=GONE_WITHIN_S)
        kwargs = KWARGS | ({} if gpu else CPU_KWARGS)
        return client.declare({"model_id": SUFFIX, "model_source": str(source), "engine_kwargs": kwargs}).model_key


def await_model(api_url: str, token: str, model_key: str, *, wait_s: float, report: Report) -> Detail:
    """Until it serves. Raises FailedError when it cannot, NotReadyError when it does not yet."""
    told: list[str] = []

    def see(detail: Detail) -> None:
        raise_if_interrupted()
        said = (f"{one.reason} {one.message}".strip() for one in detail.model.conditions if one.status != "True")
        words = "; ".join(dict.fromkeys(said))
        line = f"{detail.model.model_alias} is {detail.model.state}" + (f" ({words})" if words else "")
        if line not in told[-1:]:
            told.append(line)
            report("model", line)

    with ServingClient(api_url, token=token, patience_s=5.0) as client:
        found = wait_until_settled(client.model, model_key, timeout_s=wait_s, see=see, until=_is_decided)
        if found.model.state == "RUNNING":
            return found
        summary = found.model.error_summary or "no reason is known"
        raise FailedError(
            f"{found.model.model_alias} is {found.model.state}: {summary}",
            code="model_failed",
            data={"log_tail": _logs(client, model_key)},
        )


def _is_good(api_url: str, token: str) -> bool:
    """Not one of another database, nor a revoked one."""
    try:
        with ServingClient(api_url, token=token, patience_s=5.0) as client:
            client.page(limit=1)
    except PreflightError:
        return False
    return True


def _is_decided(detail: Detail) -> bool:
    """It serves now, or never will. After a start of the control plane its state is that of before."""
    model = detail.model
    ready = model.condition("Ready")
    return model.settled and (model.state != "RUNNING" or (ready is not None and ready.status == "True"))


def _logs(client: ServingClient, model_key: str) -> list[str]:
    try:
        return client.logs(model_key, lines=20)[-20:]
    except MoorageError:
        return []
