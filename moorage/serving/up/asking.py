"""Whether the parts answer, asked over HTTP on this machine."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any

from moorage.errors import FailedError, NotReadyError
from moorage.launch.interrupts import raise_if_interrupted
from moorage.launch.probe import fetch_http
from moorage.launch.processes import ProcessIdentity, is_alive
from moorage.serving.up.parts import log_tail
from moorage.serving.up.place import Place

__all__ = ["ANSWERS_ON", "answers", "ask_model", "await_part"]

ANSWERS_ON = {"api": "/health", "gateway": "/health"}
PAUSE_S = 0.1
ASK_TIMEOUT_S = 120.0
QUESTION = "What is 2+2?"


def answers(url: str, part: str) -> bool:
    """Whether that part answers there now."""
    reply = fetch_http(url + ANSWERS_ON[part], 2.0)
    return reply is not None and reply.status == 200


def await_part(
    place: Place,
    part: str,
    identity: ProcessIdentity,
    url: str,
    *,
    wait_s: float,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Until it answers. Raises FailedError with the end of its log when it ended, NotReadyError when it is late."""
    deadline = clock() + wait_s
    while not answers(url, part):
        raise_if_interrupted()
        if not is_alive(identity):
            tail = log_tail(place, part)
            raise FailedError(
                f"the {part} ended while it started" + (f": {_told(tail)}" if _told(tail) else ""),
                code="serve_part_died",
                hint=f"all that it said is in {place.log(part)}",
                data={"log_tail": tail},
            )
        if clock() > deadline:
            raise NotReadyError(
                f"the {part} did not answer on {url} within {wait_s:g} s",
                code="serve_part_late",
                data={"log_tail": log_tail(place, part)},
            )
        time.sleep(PAUSE_S)


def ask_model(inference_url: str, model: str, *, key: str | None) -> str:
    """What the model says to a small question, through the gateway. Raises NotReadyError with what came instead."""
    body = {"model": model, "messages": [{"role": "user", "content": QUESTION}], "max_tokens": 96, "temperature": 0}
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {key}"} if key else {})
    asked = urllib.request.Request(f"{inference_url}/v1/chat/completions", json.dumps(body).encode(), headers)  # noqa: S310
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(asked, timeout=ASK_TIMEOUT_S) as reply:
            message: dict[str, Any] = json.loads(reply.read())["choices"][0]["message"]
    except urllib.error.HTTPError as fault:
        said = fault.read(2000).decode("utf-8", "replace")
        raise NotReadyError(f"{model} answers with HTTP {fault.code}: {said}", code="model_does_not_answer") from fault
    except (OSError, ValueError, LookupError, TypeError) as fault:
        raise NotReadyError(f"{model} does not answer: {fault}", code="model_does_not_answer") from fault
    return str(message.get("content") or message.get("reasoning") or "").strip()


def _told(tail: list[str]) -> str:
    """The error that a command shows at its end."""
    return next((line.removeprefix("error: ") for line in reversed(tail) if line.startswith("error: ")), "")
