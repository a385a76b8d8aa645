"""Samples of one prompt as tokens: a session that lasts for one request."""

from __future__ import annotations

from typing import TYPE_CHECKING

from moorage.client.sessions.request import Request

if TYPE_CHECKING:
    from moorage.client.sessions.session import Session

__all__ = ["sampled"]


async def sampled(session: Session, asked: Request) -> tuple[list[int], list[list[int]], list[list[float]], list[str]]:
    """(prompt's tokens [P], samples' tokens [n][C], their log probabilities [n][C], finish reasons [n])."""
    try:
        said = await session.completion(asked.content, lane=asked.lane, timeout_s=asked.timeout_s)
        nodes = await session.nodes()
    finally:
        await session.close()
    finished = [choice["finish_reason"] for choice in said["choices"]]
    prompt_tokens = min(_prompt_tokens(node["masked_tokens"]) for node in nodes)
    prompt = nodes[0]["tokens"][:prompt_tokens]
    tokens = [node["tokens"][prompt_tokens:] for node in nodes]
    logprobs = [node["logprobs"][prompt_tokens:] for node in nodes]
    return prompt, tokens, logprobs, finished


def _prompt_tokens(masked: list[int]) -> int:
    """How many tokens stand before the first sampled one."""
    return next((at for at, token in enumerate(masked) if token != -100), len(masked))
