"""What a provider is told, field by field.

    config            openai                    openrouter, other                 the same, as_tokens
    nothing           —                         —                                 —
    enabled           reasoning_effort medium   reasoning {enabled}               reasoning {enabled}
    effort high       reasoning_effort high     reasoning {enabled, effort}       reasoning {enabled, max_tokens 25600}
    effort none       reasoning_effort none     reasoning {not enabled, effort}   reasoning {enabled, max_tokens 1024}
    max_tokens 8000   reasoning_effort medium   reasoning {enabled, max_tokens}   reasoning {enabled, max_tokens 8000}
    effort low, 9     reasoning_effort low      reasoning {enabled, effort low}   reasoning {enabled, max_tokens 6400}

Anthropic takes budgets alone: `thinking {type enabled, budget_tokens}`, of an effort what it is worth; none is
`{type disabled}`. OpenRouter takes an effort or a budget and never both.
"""

from __future__ import annotations

from typing import Any

from moorage.engines.reasoning.config import EFFORT_TOKENS, ReasoningConfig
from moorage.engines.reasoning.providers import Provider, check_bounds

__all__ = ["reasoning_fields"]

DEFAULT = "medium"


def reasoning_fields(config: ReasoningConfig, provider: Provider) -> dict[str, Any]:
    """The fields of a chat request's body; {}: nothing is asked for. Raises InvalidReasoning for a budget out of
    bounds."""
    if not config.enabled:
        return {}
    check_bounds(config, provider)
    if provider == "openai":
        return {"reasoning_effort": config.effort or DEFAULT}
    if provider == "anthropic":
        return {"thinking": _thinking(config)}
    return {"reasoning": _reasoning(config)}


def _reasoning(config: ReasoningConfig) -> dict[str, Any]:
    if config.effort is not None and not config.as_tokens:
        return {"enabled": config.effort != "none", "effort": config.effort}
    budget = config.budget_tokens
    return {"enabled": True} if budget is None else {"enabled": True, "max_tokens": budget}


def _thinking(config: ReasoningConfig) -> dict[str, Any]:
    if config.effort == "none":
        return {"type": "disabled"}
    return {"type": "enabled", "budget_tokens": config.budget_tokens or EFFORT_TOKENS[DEFAULT]}
