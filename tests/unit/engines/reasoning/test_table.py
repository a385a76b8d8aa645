"""The table of reasoning, cell by cell, and what surrounds it in a body."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moorage.engines.reasoning.apply import apply, without_skip
from moorage.engines.reasoning.config import (
    EFFORT_TOKENS,
    EFFORTS,
    InvalidReasoning,
    ReasoningConfig,
)
from moorage.engines.reasoning.fields import reasoning_fields
from moorage.engines.reasoning.providers import Provider, check_bounds, provider_of
from moorage.errors import UsageError

ROWS: list[tuple[dict[str, Any], str | None, dict[str, Any] | None, dict[str, Any] | None]] = [
    ({}, None, None, None),
    ({"enabled": True}, "medium", {"enabled": True}, {"enabled": True}),
    ({"effort": "high"}, "high", {"enabled": True, "effort": "high"}, {"enabled": True, "max_tokens": 25600}),
    ({"effort": "none"}, "none", {"enabled": False, "effort": "none"}, {"enabled": True, "max_tokens": 1024}),
    ({"max_tokens": 8000}, "medium", {"enabled": True, "max_tokens": 8000}, {"enabled": True, "max_tokens": 8000}),
    (
        {"effort": "low", "max_tokens": 9},
        "low",
        {"enabled": True, "effort": "low"},
        {"enabled": True, "max_tokens": 6400},
    ),
]


@pytest.mark.parametrize(("asked", "openai", "other", "as_tokens"), ROWS)
def test_cells(asked: dict[str, Any], openai: Any, other: Any, as_tokens: Any) -> None:
    config, budgets = ReasoningConfig(**asked), ReasoningConfig(**asked, as_tokens=True)
    for one in (config, budgets):  # OpenAI takes no budget
        assert reasoning_fields(one, "openai") == ({} if openai is None else {"reasoning_effort": openai})
    for provider in ("other", "openrouter"):
        assert reasoning_fields(config, provider) == ({} if other is None else {"reasoning": other})  # type: ignore[arg-type]
        assert reasoning_fields(budgets, provider) == ({} if as_tokens is None else {"reasoning": as_tokens})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("asked", "thinking"),
    [
        ({}, None),
        ({"enabled": True}, {"type": "enabled", "budget_tokens": 16000}),
        ({"effort": "high"}, {"type": "enabled", "budget_tokens": 25600}),
        ({"effort": "none"}, {"type": "disabled"}),
        ({"max_tokens": 128_000}, {"type": "enabled", "budget_tokens": 128_000}),
        ({"effort": "low", "max_tokens": 9}, {"type": "enabled", "budget_tokens": 6400}),
    ],
)
def test_anthropics_own(asked: dict[str, Any], thinking: Any) -> None:
    assert reasoning_fields(ReasoningConfig(**asked), "anthropic") == (
        {} if thinking is None else {"thinking": thinking}
    )


def test_efforts_and_what_they_are_worth() -> None:
    assert EFFORT_TOKENS == {
        "none": 1024,
        "minimal": 3200,
        "low": 6400,
        "medium": 16000,
        "high": 25600,
        "xhigh": 30400,
    }
    assert tuple(EFFORT_TOKENS) == EFFORTS


@given(st.sampled_from(EFFORTS) | st.none(), st.integers(1024, 32_000) | st.none(), st.booleans(), st.booleans())
def test_never_an_effort_and_a_budget(effort: Any, budget: Any, enabled: bool, as_tokens: bool) -> None:
    config = ReasoningConfig(enabled, effort, budget, as_tokens)
    assert config.enabled is (enabled or effort is not None or budget is not None)
    said = reasoning_fields(config, "openrouter").get("reasoning", {})
    assert not {"effort", "max_tokens"} <= set(said)
    if "max_tokens" in said:
        assert 1024 <= said["max_tokens"] <= 32_000


@pytest.mark.parametrize(
    ("host", "provider"),
    [
        ("api.openai.com", "openai"),
        ("eu.api.openai.com", "openai"),
        ("US.API.OpenAI.com.", "openai"),
        ("openai.com", "openai"),
        ("mine.openai.azure.com", "openai"),
        ("mine.cognitiveservices.azure.com", "openai"),
        ("mine.services.ai.azure.com", "openai"),
        ("openrouter.ai", "openrouter"),
        ("eu.openrouter.ai", "openrouter"),
        ("api.anthropic.com", "anthropic"),
        ("api.openai.com.evil.example", "other"),
        ("notopenai.com", "other"),
        ("azure.com", "other"),
        ("api-openai.com", "other"),
        ("openrouter.ai.local", "other"),
        ("127.0.0.1", "other"),
        ("::1", "other"),
        ("", "other"),
    ],
)
def test_providers_by_host(host: str, provider: Provider) -> None:
    assert provider_of(host) == provider


@pytest.mark.parametrize(
    ("provider", "least", "most"),
    [("openrouter", 1024, 32_000), ("anthropic", 1024, 128_000), ("other", 1, 10**9), ("openai", 1, 10**9)],
)
def test_bounds(provider: Provider, least: int, most: int) -> None:
    for budget in (least, most):
        check_bounds(ReasoningConfig(max_tokens=budget), provider)
    for budget in (least - 1, most + 1):
        if provider in ("openrouter", "anthropic"):
            with pytest.raises(InvalidReasoning, match=f"{least} to {most}"):
                reasoning_fields(ReasoningConfig(max_tokens=budget), provider)
            check_bounds(ReasoningConfig(effort="low", max_tokens=budget), provider)  # overruled


@pytest.mark.parametrize("effort", ["", "HIGH", "max", "high ", 3])
def test_unknown_efforts_are_refused(effort: Any) -> None:
    with pytest.raises(InvalidReasoning, match="none, minimal, low, medium, high, xhigh") as told:
        ReasoningConfig(effort=effort)
    assert isinstance(told.value, UsageError)
    assert isinstance(told.value, ValueError)
    assert told.value.message.startswith("Invalid reasoning_effort")


@pytest.mark.parametrize("budget", [0, -1, True, 2.5, "8000"])
def test_what_is_no_budget(budget: Any) -> None:
    with pytest.raises(InvalidReasoning, match="max_reasoning_tokens"):
        ReasoningConfig(max_tokens=budget)


def test_fields_of_environments() -> None:
    assert ReasoningConfig.from_env_config({}) == ReasoningConfig()
    assert ReasoningConfig.from_env_config({"thinking_mode": True}) == ReasoningConfig(enabled=True)
    assert ReasoningConfig.from_env_config({"thinking_mode": False, "reasoning_effort": "low"}).enabled
    assert ReasoningConfig.from_env_config({"max_reasoning_tokens": 2048}) == ReasoningConfig(max_tokens=2048)
    as_object = SimpleNamespace(thinking_mode=False, reasoning_effort=None, max_reasoning_tokens=4096, group_size=4)
    assert ReasoningConfig.from_env_config(as_object) == ReasoningConfig(max_tokens=4096)
    with pytest.raises(InvalidReasoning):
        ReasoningConfig.from_env_config({"thinking_mode": "yes"})


# Bodies

BODY: dict[str, Any] = {"model": "m", "messages": [], "temperature": 0.5, "max_tokens": 7, "top_p": 0.9}
LOW = ReasoningConfig(effort="low")


def both(body: dict[str, Any], config: ReasoningConfig | None, provider: Provider) -> dict[str, Any]:
    """What becomes of it, as values and as text: the same."""
    values = apply(body, config, provider)
    text = apply(json.dumps(body).encode(), config, provider)
    assert json.loads(text) == values
    return values


def test_openai_demands_more() -> None:
    rest = {"model": "m", "messages": [], "top_p": 0.9, "reasoning_effort": "low", "temperature": 1.0}
    assert both(BODY, LOW, "openai") == {**rest, "max_completion_tokens": 7}
    assert both({**BODY, "max_completion_tokens": 5}, LOW, "openai") == {**rest, "max_completion_tokens": 5}
    assert both({**BODY, "max_completion_tokens": None}, LOW, "openai") == {**rest, "max_completion_tokens": 7}
    for none in (None, 0):
        assert both({**BODY, "max_tokens": none}, LOW, "openai") == rest
    without = {"model": "m", "messages": []}
    assert both(without, LOW, "openai") == {**without, "reasoning_effort": "low", "temperature": 1.0}


def test_others_keep_what_they_have() -> None:
    said = {"enabled": True, "effort": "low"}
    for provider in ("other", "openrouter"):
        assert both(BODY, LOW, provider) == {**BODY, "reasoning": said}  # type: ignore[arg-type]
        assert both({**BODY, "reasoning": {"effort": "high", "exclude": True}}, LOW, provider) == {  # type: ignore[arg-type]
            **BODY,
            "reasoning": said,
        }
    thinking = {"thinking": {"type": "enabled", "budget_tokens": 6400}}
    assert both(BODY, LOW, "anthropic") == {**BODY, **thinking, "temperature": 1.0}
    assert both({"messages": []}, LOW, "anthropic") == {"messages": [], **thinking}
    off = {"thinking": {"type": "disabled"}}
    assert both(BODY, ReasoningConfig(effort="none"), "anthropic") == {**BODY, **off}


@pytest.mark.parametrize("skip", [True, False, None, 1, 0, "yes", ""])
@pytest.mark.parametrize("provider", ["openai", "openrouter", "anthropic", "other"])
def test_skip_reasoning_never_goes_on(skip: Any, provider: Provider) -> None:
    body = {**BODY, "skip_reasoning": skip}
    assert both(body, None, provider) == BODY
    assert both(body, ReasoningConfig(), provider) == BODY
    assert both(body, LOW, provider) == (BODY if skip else both(BODY, LOW, provider))
    assert json.loads(without_skip(json.dumps(body).encode())) == BODY


@given(
    st.dictionaries(
        st.text(max_size=12),
        st.recursive(
            st.none()
            | st.booleans()
            | st.integers(-(2**63), 2**63)
            | st.floats(allow_nan=False, allow_infinity=False)
            | st.text(max_size=9),
            lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
            max_leaves=8,
        ),
        max_size=8,
    ),
    st.sampled_from(["openai", "openrouter", "anthropic", "other"]),
)
def test_nothing_else_is_touched(body: dict[str, Any], provider: Provider) -> None:
    ours = {"skip_reasoning", "reasoning", "reasoning_effort", "thinking", "temperature", "max_tokens"}
    ours |= {"max_completion_tokens"}
    text = msgspec.json.encode(body)
    told = msgspec.json.decode(apply(text, LOW, provider), type=dict[str, msgspec.Raw])
    raw = msgspec.json.decode(text, type=dict[str, msgspec.Raw])
    assert {name: bytes(value) for name, value in told.items() if name not in ours} == {
        name: bytes(value) for name, value in raw.items() if name not in ours
    }


def test_a_body_without_work_is_the_very_same() -> None:
    text = b' { "messages" : [ ] }\n'
    assert apply(text, None, "openai") is text
    assert apply(text, ReasoningConfig(), "openai") is text
