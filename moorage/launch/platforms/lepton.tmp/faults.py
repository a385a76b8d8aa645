"""What the SDK's exceptions mean to the user: values in, an error of ours out.

Never the exception's own text without a look: the SDK puts the workspace's token, masked, into some, and a workspace
may answer with the body that it was sent.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable

from moorage.errors import ConflictError, MoorageError, PlatformUnreachable, PreflightError, TryAgainError
from moorage.launch.platforms.lepton_spec import CREDENTIALS_HINT
from moorage.launch.platforms.lepton_states import NO_ROOM

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

LONGEST_WORDS = 300
STATUS_OF_TYPE = {"WorkspaceUnauthorizedError": 401, "WorkspaceForbiddenError": 403, "WorkspaceNotFoundError": 404}
"""Of the SDK's exceptions that carry no answer."""


def status_of(fault: BaseException) -> int | None:
    """The HTTP status behind an exception of the SDK; None when no answer came, or none that it could read."""
    status = getattr(getattr(fault, "response", None), "status_code", None)
    return status if isinstance(status, int) else STATUS_OF_TYPE.get(type(fault).__name__)


def error_of(fault: BaseException, what: str, *, host: str, hidden: Iterable[str] = ()) -> MoorageError:
    """The error for what went wrong while we did `what` (a phrase, as `listing endpoints`).

    `hidden`: values that must not be shown, wherever the workspace repeats them.
    """
    status = status_of(fault)
    if status is None and isinstance(fault, OSError):  # requests' own exceptions are of this kind
        return _no_answer(fault, host)
    if status is None:
        return PlatformUnreachable(
            f"the workspace at {host} answers {what} with what the SDK cannot read ({type(fault).__name__})",
            code="lepton_bad_reply",
            hint="does LEPTON_WORKSPACE_URL name the API of a workspace?",
        )
    words = answer_words(fault, hidden)
    return _refusal(status, what, host=host, words=words)


def answer_words(fault: BaseException, hidden: Iterable[str] = ()) -> str:
    """What the workspace said, on one line and not too long; "" when it said nothing."""
    text = getattr(getattr(fault, "response", None), "text", "")
    text = _message_in(text if isinstance(text, str) else "")
    for value in sorted(hidden, key=len, reverse=True):
        for shown in (value, json.dumps(value)[1:-1]):
            text = text.replace(shown, "***") if shown else text
    text = " ".join(text.split())
    return text if len(text) <= LONGEST_WORDS else f"{text[:LONGEST_WORDS]}…"


def _refusal(status: int, what: str, *, host: str, words: str) -> MoorageError:
    said = f": {words}" if words else ""
    if status == 401:
        message = f"the workspace refused the token of LEPTON_AUTH_TOKEN (401){said}"
        return PreflightError(message, code="login_refused", hint=CREDENTIALS_HINT)
    if status == 409:
        return ConflictError(f"{what} met something of the same name (409){said}", code="name_taken")
    if status == 429:
        return TryAgainError(f"the workspace has had too many requests (429){said}", code="lepton_busy")
    if status >= 500:
        return PlatformUnreachable(
            f"the workspace at {host} is in trouble: {what} gave {status}{said}", code="lepton_trouble"
        )
    if status in (400, 402, 403, 422) and NO_ROOM.search(words):
        return TryAgainError(
            f"the workspace has no room: {words}",
            code="no_capacity",
            hint="ask for less, or try again when there is room",
        )
    if status == 403:
        return PreflightError(
            f"the token of LEPTON_AUTH_TOKEN may not do it: {what} gave 403{said}",
            code="forbidden",
            hint="ask the workspace's owner for the permission, or use another token",
        )
    return PreflightError(f"the workspace refused {what} ({status}){said}", code="lepton_refused")


def _no_answer(fault: OSError, host: str) -> PlatformUnreachable:
    text = str(fault)
    found = re.search(r"\[Errno -?\d+\] ([^'\")>]+)", text)
    why = found[1].strip() if found else "it took too long" if "time" in text.lower() else type(fault).__name__
    return PlatformUnreachable(
        f"the workspace at {host} does not answer: {why}",
        code="lepton_unreachable",
        hint="is the network up, and LEPTON_WORKSPACE_URL right?",
    )


def _message_in(text: str) -> str:
    try:
        body: Any = json.loads(text)
    except ValueError:
        return text
    if isinstance(body, dict):
        return str(body.get("message") or body.get("error") or text)
    return text
