"""How an application is, told from its replicas: pure."""

from __future__ import annotations

from collections.abc import Sequence

from moorage.serving.backends.contract import AppState, Seen
from moorage.serving.backends.launch.deciding import Life, Replica
from moorage.serving.backends.launch.told import Told
from moorage.serving.backends.launch.trouble import Trouble
from moorage.serving.model import ModelEndpoint
from moorage.serving.reasons import Reason

__all__ = ["has_failed", "seen_of", "unknown_app"]


def seen_of(
    told: Told, replicas: Sequence[Replica], trouble: Trouble | None, *, adapters: dict[str, tuple[str, ...]]
) -> Seen:
    """The application. `adapters`: what each replica has loaded."""
    serving = [one for one in replicas if one.life is Life.READY and not one.ending and one.retiring_since is None]
    wanted = told.wanted.spec.num_replicas
    state, reason, message = _state(told, replicas, len(serving), trouble)
    if told.removing:
        serving = []
    return Seen(
        app=told.wanted.app,
        state=state,
        digest=told.digest,
        reason=reason,
        message=message,
        replicas_ready=len(serving),
        endpoints=tuple(
            ModelEndpoint(
                base_url=one.endpoint,
                model=told.wanted.model_id,
                adapters=adapters.get(one.job_id, ()),
                key_env=one.key_env,
            )
            for one in sorted(serving, key=lambda one: one.slot)
            if one.endpoint is not None
        ),
        details={
            "replicas_wanted": 0 if told.removing else wanted,
            "replicas": [_row(one) for one in sorted(replicas, key=lambda one: one.slot)],
        },
    )


def unknown_app(app: str, replicas: Sequence[Replica]) -> Seen:
    """One whose replicas run and of which nothing was told: its digest fits nothing."""
    return Seen(
        app=app,
        state=AppState.DEPLOYING,
        digest="",
        reason=Reason.STARTING,
        message="its replicas were found; what they are for is not known here any more",
        details={"replicas_wanted": 0, "replicas": [_row(one) for one in replicas]},
    )


def has_failed(told: Told, replicas: Sequence[Replica], trouble: Trouble | None) -> bool:
    """Nothing of it ever answered, something ended for a reason that stays, and nothing is on its way."""
    if told.was_ready or trouble is None or trouble.passing:
        return False
    return trouble.refused or not any(
        one.life in (Life.STARTING, Life.READY, Life.SILENT) and not one.ending for one in replicas
    )


def _state(
    told: Told, replicas: Sequence[Replica], ready: int, trouble: Trouble | None
) -> tuple[AppState, Reason, str]:
    message = trouble.message if trouble is not None else ""
    wanted = told.wanted.spec.num_replicas
    if told.removing:
        return AppState.REMOVING, Reason.DELETING, f"{len(replicas)} replicas are being stopped"
    if ready >= wanted:
        return AppState.RUNNING, Reason.SERVING, message if trouble is not None and trouble.refused else ""
    if ready:
        said = f"{ready} of {wanted} replicas answer" + (f"; {message}" if message else "")
        return AppState.RUNNING, Reason.DEGRADED if message else Reason.STARTING, said
    if has_failed(told, replicas, trouble):
        return AppState.FAILED, Reason.DEPLOY_FAILED, message
    if told.was_ready:
        return AppState.DEGRADED, Reason.DEGRADED, message or "no replica answers"
    if trouble is not None:
        return AppState.DEPLOYING, trouble.reason, message
    return AppState.DEPLOYING, Reason.STARTING, _progress(replicas)


def _progress(replicas: Sequence[Replica]) -> str:
    told = sorted({one.detail for one in replicas if one.detail})
    return "; ".join(told)


def _row(one: Replica) -> dict[str, object]:
    return {
        "name": f"replica-{one.slot}",
        "job_id": one.job_id,
        "state": "retiring" if one.retiring_since is not None else one.life.value,
        "detail": one.detail,
        "base_url": one.endpoint,
    }
