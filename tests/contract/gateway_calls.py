"""What the gateway's tests say to it, and how its faults look."""

from __future__ import annotations

import json
import socket
import uuid
from collections.abc import Mapping
from typing import Any

import requests

from tests.contract.gateway_process import GatewayProcess
from tests.stand_ins.canned_replies import CannedReplies
from tests.stand_ins.stub_reply import StubReply

SAID = [{"role": "user", "content": "What is one and one?"}]


class SeveralChoices:
    """Canned replies with as many choices as `n` asks for, as a real engine gives them."""

    def __init__(self) -> None:
        self._canned = CannedReplies("stub", prompt_ids=12, sampled=6)

    def __call__(self, path: str, body: bytes) -> StubReply:
        reply, asked = self._canned(path, body), json.loads(body)
        if reply.chunks or asked.get("n", 1) == 1:
            return reply
        whole = json.loads(reply.body)
        first = whole["choices"][0]
        whole["choices"] = [{**first, "index": index} for index in range(asked["n"])]
        return StubReply(200, json.dumps(whole).encode())


def fresh() -> str:
    """A uid that nothing has."""
    return uuid.uuid4().hex


def chat(**fields: Any) -> dict[str, Any]:
    """A chat request's body."""
    return {"messages": SAID, **fields}


def step(uid: str, index: int = 0, **fields: Any) -> dict[str, Any]:
    """A step as an agent submits it."""
    return {"trajectory_uid": uid, "prompt_ids": [1, 2], "response_ids": [3, 4], "step_index": index, **fields}


def submit(gateway: GatewayProcess, *steps: Mapping[str, Any], channel: str | None = None) -> requests.Response:
    return gateway.post(f"/submit_steps{f'?channel={channel}' if channel else ''}", {"steps": list(steps)})


def init(gateway: GatewayProcess, **body: Any) -> dict[str, str]:
    """A new trajectory, with `path`: its base URL without the gateway's."""
    reply = gateway.post("/init_trajectory", body or None)
    assert reply.status_code == 200, reply.text
    made: dict[str, str] = reply.json()
    return {**made, "path": f"/{made['trajectory_uid']}/{made['prompt_uid']}"}


def steps_of(gateway: GatewayProcess, uid: str) -> list[dict[str, Any]]:
    reply = gateway.get(f"/pool/steps?trajectory_uid={uid}")
    assert reply.status_code == 200, reply.text
    found: list[dict[str, Any]] = reply.json()["steps"]
    return found


def row_of(gateway: GatewayProcess, uid: str) -> dict[str, Any]:
    """Its row of `/pool/trajectories`."""
    [row] = gateway.get(f"/pool/trajectories?trajectory_uid={uid}").json()["trajectories"]
    return dict(row)


def check_problem(reply: requests.Response, status: int, code: str | None = None) -> dict[str, Any]:
    """That it is a fault as RFC 9457 has it; its body."""
    assert reply.status_code == status, reply.text
    assert reply.headers["content-type"].partition(";")[0] == "application/problem+json", reply.text
    body: dict[str, Any] = reply.json()
    assert {"type", "title", "status", "detail", "code"} <= set(body)
    assert body["status"] == status
    assert body["code"] == code or code is None
    if status == 422:
        assert all({"pointer", "detail"} <= set(one) for one in body["errors"])
        assert body["errors"]
    return body


def check_openai(reply: requests.Response, status: int, code: str | None = None) -> dict[str, Any]:
    """That it is a fault as OpenAI has it; what stands under `error`."""
    assert reply.status_code == status, reply.text
    error: dict[str, Any] = reply.json()["error"]
    assert {"message", "type", "param", "code"} <= set(error)
    assert isinstance(error["message"], str)
    assert error["code"] == code or code is None
    return error


def events_of(lines: Any) -> list[str]:
    """The data of server-sent events."""
    return [line.removeprefix("data: ") for line in lines if line.startswith("data: ")]


def streamed(text: str) -> tuple[str, list[Any]]:
    """What a chat stream said in the end, however it was cut: content, and finish reasons."""
    events = [json.loads(one) for one in events_of(text.split("\n")) if one != "[DONE]"]
    choices = [choice for event in events for choice in event["choices"]]
    content = "".join(choice["delta"].get("content") or "" for choice in choices)
    return content, [choice["finish_reason"] for choice in choices if choice["finish_reason"]]


def send_and_leave(gateway: GatewayProcess, path: str, body: Mapping[str, Any]) -> socket.socket:
    """A request of which the reply is not read: close the socket to go away."""
    content = json.dumps(body).encode()
    head = (
        f"POST {path} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {len(content)}\r\n\r\n"
    )
    connection = socket.create_connection(("127.0.0.1", gateway.port), timeout=30)
    connection.sendall(head.encode() + content)
    return connection
