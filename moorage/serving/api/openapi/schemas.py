"""The schemas of the document: OpenAPI 3.0, which has `nullable` and no type null."""

from __future__ import annotations

from typing import Any

from moorage.serving.model import State
from moorage.serving.reasons import ACTIONS, CONDITIONS, Reason
from moorage.serving.spec.names import SUFFIX_RULE, USER_ID_RULE

__all__ = ["schemas"]

TEXT: dict[str, Any] = {"type": "string"}
FLAG: dict[str, Any] = {"type": "boolean"}
WHOLE: dict[str, Any] = {"type": "integer", "minimum": 0}
ANYTHING: dict[str, Any] = {"type": "object", "additionalProperties": True}
WHEN: dict[str, Any] = {"type": "string", "format": "date-time", "description": "RFC 3339, UTC, with Z."}


def schemas() -> dict[str, Any]:
    """By name."""
    return {**_spec(), **_model(), **_history(), **_answers(), **_people(), **_rest()}


def nullable(schema: dict[str, Any]) -> dict[str, Any]:
    """Or null."""
    return {**schema, "nullable": True}


def strict(properties: dict[str, Any], *required: str) -> dict[str, Any]:
    """What clients send: nothing else is taken."""
    found: dict[str, Any] = {"type": "object", "properties": properties, "additionalProperties": False}
    return {**found, "required": list(required)} if required else found


def whole(properties: dict[str, Any]) -> dict[str, Any]:
    """What replies have: all of it, and perhaps more in time."""
    return {"type": "object", "properties": properties, "required": list(properties)}


def listed(schema: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": schema}


def _ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}


def _spec() -> dict[str, Any]:
    changeable = {
        "num_replicas": {"type": "integer", "minimum": 1, "maximum": 1024, "default": 1},
        "gpus_per_replica": {"type": "integer", "minimum": 1, "maximum": 64, "default": 1},
        "engine_kwargs": {**ANYTHING, "description": "Arguments of the engine, those on its list.", "example": {}},
        "ttl_s": nullable({"type": "number", "description": "Deleted so long after its last change; null: never."}),
        "autoscaling": nullable(
            strict({"min_replicas": WHOLE, "max_replicas": WHOLE}, "min_replicas", "max_replicas"),
        ),
        "lora": listed(strict({"name": TEXT, "source": TEXT}, "name", "source")),
    }
    suffix = {"type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$", "description": SUFFIX_RULE}
    source = {**TEXT, "description": "A path, with $HOME, $HOME/common/hf or $HOME/common/datasets, or org/name."}
    return {
        "ServingSpec": strict({"model_id": suffix, "model_source": source, **changeable}, "model_id", "model_source"),
        "ServingPatch": {**strict(changeable), "minProperties": 1},
        "Rollback": strict({"generation": nullable({"type": "integer", "minimum": 1})}),
    }


def _model() -> dict[str, Any]:
    reasons = "; ".join(f"{reason}: {ACTIONS[reason]}" for reason in Reason)
    condition = {
        "type": {"type": "string", "enum": list(CONDITIONS)},
        "status": {"type": "string", "enum": ["True", "False", "Unknown"]},
        "reason": {"type": "string", "enum": [one.value for one in Reason], "description": f"What to do: {reasons}."},
        "message": TEXT,
        "changed_at": WHEN,
        "generation": WHOLE,
    }
    model = {
        "model_key": TEXT,
        "user_id": TEXT,
        "model_id": TEXT,
        "model_id_suffix": TEXT,
        "model_id_prefix": TEXT,
        "model_alias": TEXT,
        "model_source": TEXT,
        "num_replicas": WHOLE,
        "gpus_per_replica": WHOLE,
        "total_gpus": WHOLE,
        "engine_kwargs": ANYTHING,
        "ttl_s": nullable({"type": "number"}),
        "autoscaling": nullable({"type": "object"}),
        "lora": listed({"type": "object"}),
        "state": _ref("State"),
        "endpoint": whole({"openai_base_url": TEXT, "model": TEXT}),
        "error_summary": nullable(TEXT),
        "generation": WHOLE,
        "observed_generation": WHOLE,
        "serving_generation": nullable(WHOLE),
        "conditions": listed(_ref("Condition")),
        "created_at": WHEN,
        "updated_at": WHEN,
    }
    return {
        "State": {"type": "string", "enum": [one.value for one in State]},
        "Condition": whole(condition),
        "ServingModel": whole(model),
        "ModelPage": whole(
            {"items": listed(_ref("ServingModel")), "openai_base_url": TEXT, "next_page_token": nullable(TEXT)}
        ),
        "ModelDetail": whole(
            {
                "model": _ref("ServingModel"),
                "resolved_spec_yaml": TEXT,
                "events": listed(_ref("Event")),
                "serve_status": whole({"app_name": TEXT, "app_status": TEXT}),
            }
        ),
    }


def _history() -> dict[str, Any]:
    event = {
        "sequence": WHOLE,
        "event_type": TEXT,
        "created_at": WHEN,
        "last_at": WHEN,
        "count": WHOLE,
        "payload": ANYTHING,
    }
    revision = {"generation": WHOLE, "created_at": WHEN, "is_current": FLAG, "is_serving": FLAG, "spec": ANYTHING}
    return {
        "Event": whole(event),
        "EventPage": whole({"items": listed(_ref("Event")), "next_page_token": nullable(TEXT)}),
        "Revision": whole(revision),
        "RevisionList": whole({"items": listed(_ref("Revision"))}),
        "Logs": whole({"app_name": TEXT, "lines": listed(TEXT), "failed_at": nullable(WHEN)}),
    }


def _answers() -> dict[str, Any]:
    dry = {
        "model_key": nullable(TEXT),
        "state": _ref("State"),
        "dry_run": FLAG,
        "created": FLAG,
        "changed": FLAG,
        "generation": WHOLE,
        "diff": listed(whole({"pointer": TEXT})),
        "plan": listed(whole({"action": TEXT})),
        "resolved_spec_yaml": TEXT,
    }
    return {
        "Accepted": whole({"model_key": TEXT, "state": _ref("State")}),
        "DryRun": whole(dry),
        "AcceptedOrDryRun": {"anyOf": [_ref("Accepted"), _ref("DryRun")]},
    }


def _people() -> dict[str, Any]:
    user_id = {"type": "string", "pattern": "^[a-z][a-z0-9_-]{0,31}$", "description": USER_ID_RULE}
    token = {"token_id": TEXT, "created_at": WHEN}
    return {
        "NewUser": strict({"user_id": user_id}, "user_id"),
        "Nothing": strict({}),
        "User": whole({"user_id": TEXT, "created_at": WHEN}),
        "UserPage": whole({"items": listed(_ref("User")), "next_page_token": nullable(TEXT)}),
        "NewToken": whole({"user_id": TEXT, **token, "token": {**TEXT, "description": "Shown this once."}}),
        "TokenList": whole({"items": listed(whole(token))}),
    }


def _rest() -> dict[str, Any]:
    fault = whole({"pointer": TEXT, "detail": TEXT, "code": TEXT})
    problem = whole({"type": TEXT, "title": TEXT, "status": WHOLE, "detail": TEXT, "code": TEXT})
    problem["properties"] |= {"hint": TEXT, "errors": listed(fault)}
    model = {
        **{name: TEXT for name in ("model_key", "model_id", "alias", "user_id", "reason", "message")},
        "state": _ref("State"),
        "ready": FLAG,
        "retry_after_s": WHOLE,
        "endpoints": listed(
            whole({"base_url": TEXT, "model": TEXT, "adapters": listed(TEXT), "key_env": nullable(TEXT)})
        ),
    }
    limits = {name: nullable(WHOLE) for name in ("requests_per_minute", "tokens_per_minute", "concurrent_requests")}
    return {
        "Problem": problem,
        "Health": whole({"status": TEXT, "version": TEXT, "backend": TEXT}),
        "Status": whole(
            {"backend": ANYTHING, "applications": listed(ANYTHING), "models": ANYTHING, "unsettled": listed(TEXT)}
        ),
        "Endpoints": whole(
            {
                "version": WHOLE,
                "auth": {"type": "string", "enum": ["none", "required"]},
                "models": listed(whole(model)),
                "users": listed(whole({"sha256": TEXT, "user_id": TEXT})),
                "limits": whole(limits),
            }
        ),
    }
