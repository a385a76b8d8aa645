"""Reasoning as a servers file configures it, an endpoint at a time."""

from __future__ import annotations

import json
from typing import Any

import pytest

from moorage.engines.fleet.servers_file import endpoints_of
from moorage.engines.reasoning.config import ReasoningConfig
from moorage.errors import UsageError

LOCAL = {"base_url": "http://127.0.0.1:9001/v1"}


def reasoning(server: dict[str, Any], **common: Any) -> ReasoningConfig | None:
    return endpoints_of({"servers": [{**LOCAL, **server}], **common})[0].reasoning


def test_a_servers_own_comes_before_the_files() -> None:
    assert reasoning({}) is None
    assert reasoning({"reasoning": {"effort": "low"}}) == ReasoningConfig(effort="low")
    assert reasoning({"reasoning_effort": "high"}, reasoning={"effort": "low"}) == ReasoningConfig(effort="high")
    assert reasoning({}, thinking_mode=True) == ReasoningConfig(enabled=True)
    assert reasoning({}, max_reasoning_tokens=4096) == ReasoningConfig(max_tokens=4096)
    assert reasoning({"thinking_mode": False}, reasoning_effort="high") == ReasoningConfig()
    assert reasoning({"reasoning": {"effort": "low", "as_tokens": True}}) == ReasoningConfig(
        effort="low", as_tokens=True
    )


@pytest.mark.parametrize(
    ("server", "common", "words"),
    [
        ({"reasoning_effort": "max"}, {}, r"servers\[0\].*none, minimal, low, medium, high, xhigh"),
        ({}, {"reasoning": {"effort": "max"}}, "^Invalid reasoning_effort"),
        ({"base_url": "https://openrouter.ai/api/v1", "max_reasoning_tokens": 1000}, {}, "1024 to 32000"),
        ({"base_url": "https://openrouter.ai/api/v1"}, {"max_reasoning_tokens": 64_000}, "1024 to 32000"),
        ({"base_url": "https://api.anthropic.com/v1", "max_reasoning_tokens": 128_001}, {}, "1024 to 128000"),
        ({"max_reasoning_tokens": 0}, {}, "at least 1"),
        ({"thinking_mode": "yes"}, {}, "thinking_mode"),
        ({"reasoning": {"max_tokens": "many"}}, {}, "max_tokens"),
    ],
)
def test_what_is_refused(server: dict[str, Any], common: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words) as told:
        reasoning(server, **common)
    assert told.value.code == "bad_servers"


def test_chats_alone_are_told() -> None:
    [endpoint] = endpoints_of(
        {"servers": [{**LOCAL, "base_url": "https://eu.api.openai.com/v1", "reasoning_effort": "low"}]}
    )
    body = b'{"max_tokens": 5}'
    told = json.loads(endpoint.prepared(body, chat=True, has_skip=False))
    assert told == {"reasoning_effort": "low", "temperature": 1.0, "max_completion_tokens": 5}
    assert endpoint.prepared(body, chat=False, has_skip=False) is body
    skipping = b'{"max_tokens": 5, "skip_reasoning": true}'
    for chat in (True, False):
        assert json.loads(endpoint.prepared(skipping, chat=chat, has_skip=True)) == {"max_tokens": 5}
    [silent] = endpoints_of({"servers": [LOCAL]})
    assert silent.prepared(body, chat=True, has_skip=False) is body
    assert json.loads(silent.prepared(skipping, chat=True, has_skip=True)) == {"max_tokens": 5}
