"""Who is asked, by the host that a URL names: never by what else stands in it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from moorage.engines.reasoning.config import InvalidReasoning, ReasoningConfig

__all__ = ["Provider", "check_bounds", "provider_of"]

Provider = Literal["openai", "openrouter", "anthropic", "other"]

HOSTS: tuple[tuple[str, Provider], ...] = (
    # eu.api.openai.com and other regions end the same.
    ("openai.com", "openai"),
    # Azure has OpenAI's models, each under a name of the customer's.
    ("openai.azure.com", "openai"),
    ("openai.azure.us", "openai"),
    ("openai.azure.cn", "openai"),
    ("cognitiveservices.azure.com", "openai"),
    ("services.ai.azure.com", "openai"),
    ("openrouter.ai", "openrouter"),
    ("anthropic.com", "anthropic"),
)
"""A host is one of these or ends with a dot and one of them."""


@dataclass(frozen=True)
class Bounds:
    """Of a budget, in tokens."""

    least: int
    most: int


BOUNDS: dict[Provider, Bounds] = {"openrouter": Bounds(1024, 32_000), "anthropic": Bounds(1024, 128_000)}
"""OpenAI takes no budget; of others nothing is known."""


def provider_of(host: str) -> Provider:
    """By a host as a parsed URL has it, without a port."""
    host = host.lower().rstrip(".")
    for known, provider in HOSTS:
        if host == known or host.endswith(f".{known}"):
            return provider
    return "other"


def check_bounds(config: ReasoningConfig, provider: Provider) -> None:
    """Raises InvalidReasoning for a budget that the provider would refuse. One that an effort overrules is not looked
    at."""
    bounds = BOUNDS.get(provider)
    if bounds is None or config.effort is not None or config.max_tokens is None:
        return
    if not bounds.least <= config.max_tokens <= bounds.most:
        raise InvalidReasoning(
            f"max_reasoning_tokens is {config.max_tokens}: {provider} takes {bounds.least} to {bounds.most}"
        )
