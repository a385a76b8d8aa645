"""Replies as the types of OpenAI's package, which is imported when the first reply is made."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from moorage.errors import PreflightError
from moorage.extras import install_command

if TYPE_CHECKING:
    from openai.types import Completion
    from openai.types.chat import ChatCompletion

__all__ = ["chat_completion", "completion"]


def chat_completion(said: dict[str, Any]) -> ChatCompletion:
    """Tool calls are typed objects too; fields that OpenAI does not know are kept. Raises PreflightError."""
    try:
        from openai.types.chat import ChatCompletion
    except ImportError:
        raise _missing() from None
    return ChatCompletion.construct(**said)


def completion(said: dict[str, Any]) -> Completion:
    """Raises PreflightError."""
    try:
        from openai.types import Completion
    except ImportError:
        raise _missing() from None
    return Completion.construct(**said)


def _missing() -> PreflightError:
    message = "replies are objects of the package openai, which is not installed"
    return PreflightError(message, code="package_missing", next=[install_command("client")])
