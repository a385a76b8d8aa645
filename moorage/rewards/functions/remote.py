"""A reward model behind HTTP: asked again when it is busy or gone, within one deadline.

Its key is named, never given: `key_env` is the variable that holds it. Redirects are not followed, so a key goes
nowhere but to the configured host.
"""

from __future__ import annotations

import http.client
import json
import math
import os
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal
from urllib.parse import SplitResult, urlsplit

import msgspec

from moorage.errors import FailedError, MoorageError, PreflightError, TryAgainError, UsageError
from moorage.rewards.sample import Sample, Score

__all__ = ["Remote"]

REPLY_BYTES = 1 << 20
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.25, 8.0
USUAL_PLACES = ("reward", "reward_score", "score")
AGAIN = frozenset((408, 425, 429, 500, 502, 503, 504))
"""Statuses after which the same request may work a little later."""


@dataclass(frozen=True, kw_only=True)
class Remote:
    """What a reward model answers that is asked by HTTP POST."""

    version: ClassVar[str] = "1"
    lanes: ClassVar[int] = 32
    """It waits more than it computes: one process has so many under way."""
    url: str
    """Neither a user nor a query: what is secret has no place in it."""
    key_env: str | None = None
    """The variable that holds the key, sent as `Authorization: Bearer`; None: none is sent."""
    send: Literal["sample", "input"] = "sample"
    """sample: the whole sample as JSON. input: `{"model", "input": TEXT}`, as classifiers and embedders take it."""
    model: str | None = None
    reward_at: str | None = None
    """Where the reply has the reward, as `data.0.probs.0`; None: reward, reward_score or score."""
    timeout_s: float = 20.0
    """For all attempts together."""
    attempts: int = 4

    def __post_init__(self) -> None:
        _split(self.url)
        if self.attempts < 1 or not 0 < self.timeout_s <= 3600:
            message = "attempts is at least 1, timeout_s above 0 and at most 3600"
            raise UsageError(message, code="reward_options")
        _key(self.key_env)

    def __call__(self, sample: Sample) -> Score:
        """Raises TryAgainError when it does not answer in time, FailedError for an answer that is no reward."""
        said, attempts = self._ask(self._body(sample), _Deadline(time.monotonic, self.timeout_s), time.sleep)
        info = said.get("reward_extra_info") if isinstance(said, dict) else None
        return Score(self._reward(said), {"attempts": attempts, **(info if isinstance(info, dict) else {})})

    def _body(self, sample: Sample) -> bytes:
        if self.send == "sample":
            return msgspec.json.encode(sample)
        return msgspec.json.encode({"model": self.model, "input": _as_text(sample)})

    def _ask(self, body: bytes, deadline: _Deadline, sleep: Callable[[float], None]) -> tuple[Any, int]:
        attempt, pause_s, last = 0, FIRST_PAUSE_S, "no attempt was made"
        while True:
            attempt += 1
            try:
                status, headers, raw = _post(self.url, self.key_env, body, deadline)
            except (OSError, http.client.HTTPException) as fault:
                last, after_s = f"{type(fault).__name__}: {fault}"[:200], None
            else:
                if status < 300:
                    return _read(raw), attempt
                last, after_s = f"it answered {status}", _retry_after_s(headers)
                if status not in AGAIN:
                    raise FailedError(f"the reward model did not judge: {last}", code="reward_model_refused")
            pause_s = min(max(pause_s, after_s or 0.0), LONGEST_PAUSE_S)
            is_late = pause_s >= deadline.rest_s if attempt < self.attempts else deadline.rest_s <= 0
            if is_late or attempt >= self.attempts:
                raise _given_up(last, attempt, late=is_late)
            sleep(pause_s)
            pause_s *= 2

    def _reward(self, said: Any) -> float:
        value = said
        if self.reward_at is not None:
            value = _at(said, self.reward_at)
        elif isinstance(said, dict):
            value = next((said[name] for name in USUAL_PLACES if name in said), None)
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            place = self.reward_at or " or ".join(USUAL_PLACES)
            raise FailedError(f"the reward model's reply has no finite number at {place}", code="reward_model_reply")
        return float(value)


class _Deadline:
    def __init__(self, clock: Callable[[], float], within_s: float) -> None:
        self._clock, self._at = clock, clock() + within_s

    @property
    def rest_s(self) -> float:
        """What is left; 0 or less when it is over."""
        return self._at - self._clock()

    def left_s(self) -> float:
        """The same for something that takes time. Raises TimeoutError when it is over."""
        left_s = self.rest_s
        if left_s <= 0:
            raise TimeoutError("its time is over")
        return left_s


def _given_up(last: str, attempts: int, *, late: bool) -> MoorageError:
    code = "reward_model_late" if late else "reward_model_gone"
    return TryAgainError(f"the reward model did not answer in {attempts} attempts: {last}", code=code)


def _split(url: str) -> SplitResult:
    """Raises UsageError, without the URL: a secret may be in it."""
    try:
        split = urlsplit(url)
        fine = split.scheme in ("http", "https") and bool(split.hostname) and (split.port or 1) > 0
    except ValueError:
        fine = False
    if not fine or split.username is not None or split.query or split.fragment or not url.isascii():
        raise UsageError(
            "url: http(s)://host[:port][/path], without a user, a query or a fragment",
            code="reward_options",
            hint="name the variable that holds a key with key_env",
        )
    return split


def _key(name: str | None) -> str | None:
    """Raises PreflightError that names the variable."""
    if name is None:
        return None
    value = os.environ.get(name)
    if not value or not value.isascii() or not value.isprintable():
        problem = "is not set" if not value else "cannot stand in a header"
        raise PreflightError(
            f"{name} {problem}, and the reward model needs it", code="api_key_missing", hint=f"export {name}"
        )
    return value


def _post(
    url: str, key_env: str | None, body: bytes, deadline: _Deadline
) -> tuple[int, http.client.HTTPMessage, bytes]:
    split = _split(url)
    left_s = deadline.left_s()
    connection: http.client.HTTPConnection
    if split.scheme == "https":
        context = ssl.create_default_context()
        connection = http.client.HTTPSConnection(str(split.hostname), split.port, timeout=left_s, context=context)
    else:
        connection = http.client.HTTPConnection(str(split.hostname), split.port, timeout=left_s)
    headers = {"content-type": "application/json", "accept": "application/json"}
    if (key := _key(key_env)) is not None:
        headers["authorization"] = f"Bearer {key}"
    try:
        connection.request("POST", split.path or "/", body, headers)
        connection.sock.settimeout(deadline.left_s())
        response = connection.getresponse()
        return response.status, response.headers, _content(connection, response, deadline)
    finally:
        connection.close()


def _content(connection: http.client.HTTPConnection, response: http.client.HTTPResponse, deadline: _Deadline) -> bytes:
    """The body, piece by piece: one that drips must not outlast the deadline."""
    content = b""
    while piece := response.read1(65536):
        content += piece
        if len(content) > REPLY_BYTES:
            raise FailedError(f"the reward model's reply has more than {REPLY_BYTES} bytes", code="reward_model_reply")
        left_s = deadline.left_s()
        if connection.sock is not None:
            connection.sock.settimeout(left_s)
    return content


def _read(raw: bytes) -> Any:
    try:
        return json.loads(raw)
    except (ValueError, RecursionError):
        raise FailedError("the reward model's reply is not JSON", code="reward_model_reply") from None


def _retry_after_s(headers: http.client.HTTPMessage) -> float | None:
    """In seconds; None for none, and for a date."""
    text = headers.get("retry-after", "")
    return float(text) if text.isdecimal() and len(text) < 6 else None


def _at(value: Any, path: str) -> Any:
    for name in path.split("."):
        if isinstance(value, dict):
            value = value.get(name)
        elif isinstance(value, list) and name.isdecimal() and int(name) < len(value):
            value = value[int(name)]
        else:
            return None
    return value


def _as_text(sample: Sample) -> str:
    """The conversation as text, a line a message; or the reply alone when there is none."""
    if sample.messages is None:
        return sample.text
    return "\n".join(f"{message.get('role')}: {message.get('content')}" for message in sample.messages)
