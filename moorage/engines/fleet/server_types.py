"""What an endpoint may say it is."""

from __future__ import annotations

from typing import Literal, get_args

__all__ = ["SERVER_TYPES", "ServerType"]

ServerType = Literal["vllm", "sglang", "trl", "openai"]
SERVER_TYPES: tuple[str, ...] = get_args(ServerType)
