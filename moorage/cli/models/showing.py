"""Pure: models, plans and events as lines for people."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from moorage.cli.output import table

if TYPE_CHECKING:
    from moorage.client.serving.watching import Watched

__all__ = ["detail_lines", "list_lines", "model_line", "plan_lines", "watched_line"]

COLOURS = {"RUNNING": 32, "FAILED": 31, "DEPLOYING": 33, "QUEUED": 33, "DELETING": 35, "DELETED": 90}
ADDED, TAKEN = 32, 31
NOTHING: tuple[Any, ...] = (None, [], {})
"""Values of a new model that are not worth a line."""


def list_lines(models: Sequence[Mapping[str, Any]], *, colour: bool) -> list[str]:
    """A row a model, and below it why it is not as it should be."""
    if not models:
        return ["no models; moor models apply -f FILE declares one"]
    head = ["MODEL", "STATE", "REPLICAS", "GPUS", "GENERATION", "CREATED", "KEY"]
    rows = [head, *([*_row(model)] for model in models)]
    first, *rest = table(rows)
    at, lines = first.index("STATE"), [first]
    for model, line in zip(models, rest, strict=True):
        state = str(model["state"])
        lines.append(line[:at] + painted(state, COLOURS.get(state), colour=colour) + line[at + len(state) :])
        if model.get("error_summary"):
            lines.append(f"  {model['error_summary']}")
    return lines


def model_line(model: Mapping[str, Any]) -> str:
    """What a change came to, in one line."""
    called = model.get("model_alias") or model["model_key"]
    more = f"  {model['model_key']}" if called != model["model_key"] else ""
    return f"{called}  {model['state']}{more}"


def detail_lines(data: Mapping[str, Any], *, colour: bool) -> list[str]:
    """One model with its conditions, its revisions and its last events."""
    model = data["model"]
    state = str(model["state"])
    lines = [f"{model['model_alias']}  {painted(state, COLOURS.get(state), colour=colour)}"]
    lines += [f"  error       {model['error_summary']}"] if model.get("error_summary") else []
    lines += [f"  {name:<11} {value}" for name, value in _facts(model) if value not in NOTHING]
    conditions = model.get("conditions") or []
    if conditions:
        lines += ["conditions", *_indented([[*_condition(one)] for one in conditions])]
    if data.get("revisions"):
        lines += ["revisions", *_indented([[*_revision(one)] for one in data["revisions"]])]
    if data.get("events"):
        lines += ["events", *_indented([[*_event(one)] for one in data["events"][-20:]])]
    return lines


def plan_lines(plan: Mapping[str, Any], *, colour: bool) -> list[str]:
    """What a change would do: a heading, the fields that would change, and the steps."""
    called = plan.get("model_key") or _suffix(plan)
    if plan.get("created"):
        lines = [f"create {called}"]
    elif plan.get("changed"):
        lines = [f"change {called} to generation {plan['generation']}"]
    else:
        lines = [f"nothing would change of {called}, which is {plan['state']}"]
    for change in plan.get("diff") or ():
        lines += _change(change, colour=colour)
    return [*lines, *(f"  then {_step(step)}" for step in plan.get("plan") or ())]


def watched_line(event: Watched) -> str:
    """One event of a watch."""
    model = event.data.get("model") or {}
    open_ones = [one for one in model.get("conditions") or () if one["status"] != "True"]
    why = model.get("error_summary") or (f"{open_ones[0]['reason']} {open_ones[0]['message']}" if open_ones else "")
    generation = f"{model.get('observed_generation')}/{model.get('generation')}"
    told = [model.get("updated_at"), model.get("model_alias"), model.get("state"), generation, why]
    return "  ".join(str(word).strip() for word in [*told[:1], event.type, *told[1:]] if word)


def painted(text: str, colour_code: int | None, *, colour: bool) -> str:
    """In a terminal's colour."""
    return f"\x1b[{colour_code}m{text}\x1b[0m" if colour and colour_code is not None else text


def _row(model: Mapping[str, Any]) -> Sequence[str]:
    generation, observed = model.get("generation", 1), model.get("observed_generation", 0)
    return (
        str(model["model_alias"]),
        str(model["state"]),
        _replicas(model),
        str(model["total_gpus"]),
        str(generation) if generation == observed else f"{generation} (at {observed})",
        str(model["created_at"]),
        str(model["model_key"]),
    )


def _replicas(model: Mapping[str, Any]) -> str:
    bounds = model.get("autoscaling")
    if not bounds:
        return str(model["num_replicas"])
    return f"{bounds['min_replicas']} to {bounds['max_replicas']}"


def _facts(model: Mapping[str, Any]) -> Sequence[tuple[str, Any]]:
    endpoint = model.get("endpoint") or {}
    return (
        ("key", model["model_key"]),
        ("name", model["model_id"]),
        ("source", model["model_source"]),
        ("replicas", f"{_replicas(model)}, {model['gpus_per_replica']} GPU each"),
        ("kwargs", json.dumps(model["engine_kwargs"]) if model.get("engine_kwargs") else None),
        ("lora", ", ".join(one["name"] for one in model.get("lora") or ()) or None),
        ("ttl_s", model.get("ttl_s")),
        ("generation", f"{model.get('generation')}, settled {model.get('observed_generation')}"),
        ("created", model["created_at"]),
        ("answers at", endpoint.get("openai_base_url")),
    )


def _condition(one: Mapping[str, Any]) -> Sequence[str]:
    return (str(one["type"]), str(one["status"]), str(one["reason"]), str(one.get("message") or ""))


def _revision(one: Mapping[str, Any]) -> Sequence[str]:
    marks = [word for word, name in (("wanted", "is_current"), ("serves", "is_serving")) if one.get(name)]
    spec = one.get("spec") or {}
    told = {name: value for name, value in spec.items() if value not in NOTHING and name != "model_id"}
    return (str(one["generation"]), str(one["created_at"]), ", ".join(marks), json.dumps(told))


def _event(one: Mapping[str, Any]) -> Sequence[str]:
    many = f"{one['count']} times" if one.get("count", 1) > 1 else ""
    return (str(one["created_at"]), str(one["event_type"]), many, _payload(one.get("payload")))


def _payload(payload: Any) -> str:
    if not isinstance(payload, dict):
        return ""
    return " ".join(f"{name}={_word(value)}" for name, value in payload.items() if value not in ("", None))


def _word(value: Any) -> str:
    if isinstance(value, dict):
        value = {name: inner for name, inner in value.items() if inner is not None}
    return value if isinstance(value, str) else json.dumps(value)


def _change(change: Mapping[str, Any], *, colour: bool) -> list[str]:
    name = str(change["pointer"]).lstrip("/")
    lines = [painted(f"  - {name}: {json.dumps(change['from'])}", TAKEN, colour=colour)] if "from" in change else []
    if "to" in change and (lines or change["to"] not in NOTHING):
        lines.append(painted(f"  + {name}: {json.dumps(change['to'])}", ADDED, colour=colour))
    return lines


def _step(step: Mapping[str, Any]) -> str:
    """`{action, …}` as words."""
    rest = {name: value for name, value in step.items() if name != "action" and value is not None}
    return f"{str(step['action']).replace('_', ' ')} {_payload(rest)}".rstrip()


def _suffix(plan: Mapping[str, Any]) -> str:
    """Of a model that has no key yet."""
    return next((str(one["to"]) for one in plan.get("diff") or () if one["pointer"] == "/model_id"), "")


def _indented(rows: list[list[str]]) -> list[str]:
    return [f"  {line}" for line in table(rows)]
