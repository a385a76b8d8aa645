"""The document's schemas: request bodies from the types that decode them, replies written once."""

from __future__ import annotations

from typing import Any

import msgspec

from moorage.gateway.openapi.operation import ref
from moorage.gateway.routes.control import PauseBody, WeightsBody
from moorage.gateway.routes.logprobs import LogprobsBody
from moorage.gateway.routes.pool import AckBody, LeaseBody, NackBody
from moorage.gateway.routes.pool_marks import MarksBody
from moorage.gateway.routes.pool_retention import RetainBody
from moorage.gateway.routes.rewards import GivenBody, RewardBody
from moorage.gateway.routes.sessions import CreateBody
from moorage.gateway.routes.trajectories import CompleteBody, InitBody, RegisterBody
from moorage.gateway.routes.whitebox import GenerateBody, StepsBody
from moorage.gateway.turns.bodies import ChatAsk, CompletionAsk
from moorage.pool.contract import Step

__all__ = ["schemas"]

BODIES = (
    *(ChatAsk, CompletionAsk, LogprobsBody),
    *(CreateBody, InitBody, RegisterBody, CompleteBody),
    *(GenerateBody, StepsBody, RewardBody, GivenBody),
    *(LeaseBody, AckBody, NackBody),
    *(MarksBody, RetainBody),
    *(PauseBody, WeightsBody),
)
UID = r"^(?!\.{1,2}$)[A-Za-z0-9._~:-]{1,128}$"
PROMPT_UID = r"^(?!\.{1,2}$|v1$)[A-Za-z0-9._~:-]{1,128}$"

TEXT: dict[str, Any] = {"type": "string"}
NUMBER: dict[str, Any] = {"type": "number"}
WHOLE: dict[str, Any] = {"type": "integer"}
COUNT: dict[str, Any] = {"type": "integer", "minimum": 0}
FLAG: dict[str, Any] = {"type": "boolean"}
ANY_OBJECT: dict[str, Any] = {"type": "object"}
TIME: dict[str, Any] = {"type": "string", "format": "date-time"}
OWN_KEY = {"api_key": {"type": "string", "description": "The session's own key, where keys are asked for."}}


def schemas() -> dict[str, Any]:
    """Every component schema by name."""
    _, found = msgspec.json.schema_components([*BODIES, Step], ref_template="#/components/schemas/{name}")
    return {
        **found,
        "PassedBody": {
            "type": "object",
            "properties": {"model": _or_null(TEXT), "stream": _or_null(FLAG)},
            "description": "Whatever the engine takes: it is passed as it came.",
        },
        "SetupBody": {
            "type": "object",
            "required": ["servers"],
            "properties": {
                "model_name": _or_null(TEXT),
                "tokenizer_name": _or_null(TEXT),
                "servers": {"type": "array", "items": ref("Server")},
            },
        },
        "Server": {"type": "object", "required": ["base_url"], "properties": {"base_url": TEXT, "server_type": TEXT}},
        **_faults(),
        **_uids(),
        **_model_replies(),
        **_session_replies(),
        **_trajectory_replies(),
        **_pool_replies(),
        **_operation_replies(),
    }


def _faults() -> dict[str, Any]:
    error = _object(message=TEXT, type=TEXT, param=_or_null(TEXT), code=_or_null({"type": ["string", "integer"]}))
    wrong = _array(_object(pointer=TEXT, detail=TEXT))
    problem = _object(type=TEXT, title=TEXT, status=WHOLE, detail=TEXT, code=TEXT)
    problem["properties"]["errors"] = wrong
    return {"Error": _object(error=error), "Problem": problem}


def _uids() -> dict[str, Any]:
    return {"Uid": {"type": "string", "pattern": UID}, "PromptUid": {"type": "string", "pattern": PROMPT_UID}}


def _model_replies() -> dict[str, Any]:
    usage = _object(prompt_tokens=COUNT, completion_tokens=COUNT, total_tokens=COUNT)
    said = _object(index=COUNT, message=ANY_OBJECT, finish_reason=_or_null(TEXT))
    text = _object(index=COUNT, text=TEXT, finish_reason=_or_null(TEXT))
    head = {"id": TEXT, "object": TEXT, "created": WHOLE, "model": TEXT}
    return {
        "ChatCompletion": _object(**head, choices=_array(said), usage=usage),
        "TextCompletion": _object(**head, choices=_array(text), usage=usage),
        "Model": _object(id=TEXT, object=TEXT, created=WHOLE, owned_by=TEXT),
        "ModelList": _object(object={"const": "list"}, data=_array(ref("Model"))),
    }


def _session_replies() -> dict[str, Any]:
    numbers, ids = _array(NUMBER), _array(WHOLE)
    node = _object(full_text=TEXT, tokens=ids, masked_tokens=ids, logprobs=numbers, metadata=ANY_OBJECT)
    row = _object(
        uuid=TEXT, model_name=_or_null(TEXT), base_url=_or_null(TEXT), created_at=NUMBER, last_accessed=NUMBER
    )
    row["properties"]["num_nodes"] = COUNT
    return {
        "SessionCreated": _with(
            OWN_KEY,
            _object(
                uuid=TEXT,
                model_name=_or_null(TEXT),
                tool_parser=_or_null(TEXT),
                tool_parsing={"enum": ["enabled", "disabled"]},
                mode={"enum": ["exact", "passthrough"]},
                base_url=TEXT,
                created_at=NUMBER,
            ),
        ),
        "SessionList": _object(sessions=_array(row)),
        "SessionDeleted": _object(status={"const": "deleted"}, uuid=TEXT),
        "Nodes": _object(nodes=_array(node)),
        "PromptLogprobs": _object(
            prompt_tokens=ids,
            prompt_topk_token_ids=_array(ids),
            prompt_topk_logprobs=_array(_array(NUMBER)),
            prompt_logprobs=_array(_or_null(NUMBER)),
        ),
        "Rendered": _object(prompt_text=TEXT, token_ids=ids, num_tokens=COUNT),
    }


def _trajectory_replies() -> dict[str, Any]:
    ids = _array(WHOLE)
    return {
        "TrajectoryMade": _with(
            OWN_KEY, _object(trajectory_uid=TEXT, prompt_uid=TEXT, base_url=TEXT, openai_base_url=TEXT)
        ),
        "Done": _object(status={"const": "ok"}),
        "Generated": _object(
            response_text=TEXT,
            response_ids=ids,
            prompt_ids=ids,
            token_ids=ids,
            log_probs=_array(NUMBER),
            stop_reason=_or_null(TEXT),
        ),
        "Accepted": _object(accepted=COUNT, duplicates=COUNT),
        **_rewards(),
    }


def _rewards() -> dict[str, Any]:
    version = _object(
        version={"type": "integer", "minimum": 1},
        reward=NUMBER,
        by={"enum": ["given", "computed", "completed", "submitted"]},
        function=_or_null(TEXT),
        function_version=_or_null(TEXT),
        at=TIME,
        info=ANY_OBJECT,
    )
    of_step = _object(step_index=COUNT, versions=_array(version))
    return {
        "Reward": _object(
            reward=NUMBER,
            reward_score=NUMBER,
            reward_extra_info=ANY_OBJECT,
            function=TEXT,
            function_version=_or_null(TEXT),
        ),
        "RewardSet": _object(trajectory_uid=TEXT, step_index=_or_null(COUNT), reward=NUMBER, version=COUNT),
        "Rewards": _object(
            trajectory_uid=TEXT,
            state={"enum": ["open", "complete", "deleted"]},
            reward=_or_null(NUMBER),
            versions=_array(version),
            steps=_array(of_step),
        ),
    }


def _pool_replies() -> dict[str, Any]:
    cursor = _or_null(TEXT)
    rewarded = _object(trajectory_uid=TEXT, reward=_or_null(NUMBER), metadata=ANY_OBJECT, steps=_array(ref("Step")))
    lease = _object(lease_id=TEXT, channel=TEXT, prompt_uid=TEXT, attempt={"type": "integer", "minimum": 1})
    lease["properties"] |= {"expires_at": TIME, "trajectories": _array(rewarded)}
    lease["required"] += ["expires_at", "trajectories"]
    rounds = _object(open=COUNT, ready=COUNT, leased=COUNT, acked=COUNT, dropped=COUNT)
    counts = _object(steps=COUNT, late_steps=COUNT, trajectories=_object(open=COUNT, complete=COUNT), groups=rounds)
    row = _object(
        trajectory_uid=TEXT,
        prompt_uid=_or_null(TEXT),
        channel=TEXT,
        state={"enum": ["open", "complete"]},
        steps=COUNT,
        late_steps=COUNT,
        reward=_or_null(NUMBER),
        metadata=ANY_OBJECT,
        created_at=TIME,
        completed_at=_or_null(TIME),
    )
    return {
        "Leases": _object(leases=_array(lease), skipped_stale=COUNT),
        "Acked": _object(acked=COUNT),
        "Nacked": _object(nacked=COUNT),
        "Marked": _object(trajectory_uid=TEXT, step_index=COUNT, marks=ANY_OBJECT),
        "Retained": _object(
            dry_run=FLAG,
            trajectories=COUNT,
            calls=COUNT,
            bytes=COUNT,
            channels={"type": "object", "additionalProperties": COUNT},
            oldest_at=_or_null(TIME),
            newest_at=_or_null(TIME),
            blobs=COUNT,
            freed_bytes=COUNT,
            content_bytes=COUNT,
        ),
        "Stats": _object(channels={"type": "object", "additionalProperties": counts}),
        "StepPage": _object(steps=_array(ref("Step")), next_cursor=cursor),
        "TrajectoryPage": _object(trajectories=_array(row), next_cursor=cursor),
    }


def _operation_replies() -> dict[str, Any]:
    server = _object(index=COUNT, base_url=TEXT, healthy=FLAG, model_name=_or_null(TEXT), server_type=TEXT)
    version = _or_null(COUNT)
    return {
        "Paused": _object(paused=FLAG, since=_or_null(TIME), in_flight=COUNT, gateways=COUNT, silent=COUNT),
        "Resumed": _object(paused={"const": False}, paused_s=_or_null(NUMBER)),
        "Weights": _object(version=version),
        "WeightsNamed": _object(version=COUNT, before=version),
        "Ready": _object(status={"const": "ready"}),
        "Health": _with(
            {"model": _or_null(TEXT), "sessions": COUNT, "servers": COUNT, "healthy_servers": COUNT},
            _object(status={"enum": ["ok", "degraded", "unavailable"]}),
        ),
        "Servers": _object(servers=_array(server)),
        "SetUp": _object(status=TEXT, servers=COUNT, model_name=_or_null(TEXT)),
    }


def _object(**fields: Any) -> dict[str, Any]:
    """All of them are always there; more may be."""
    return {"type": "object", "required": list(fields), "properties": fields}


def _with(optional: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    """The same object with fields that may be missing."""
    return {**schema, "properties": {**schema["properties"], **optional}}


def _array(items: Any) -> dict[str, Any]:
    return {"type": "array", "items": items}


def _or_null(schema: dict[str, Any]) -> dict[str, Any]:
    return {"anyOf": [schema, {"type": "null"}]}
