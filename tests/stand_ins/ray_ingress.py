"""One application of Ray Serve LLM 2.60 as its HTTP proxy shows it, over the replies of another stand-in.

Everything stands under the application's route; there is no `/health`, no render and no generate route, and `/tokenize`
answers 400 to everything. Chats, completions and their token ids pass unchanged.
"""

from __future__ import annotations

import json

from tests.stand_ins.engine_stub import EngineStub, Replier, Seen
from tests.stand_ins.stub_reply import StubReply

__all__ = ["RayIngress"]

PASSED = ("/v1/chat/completions", "/v1/completions")
NO_TASK = {"error": {"message": "does not support the 'tokenization' task", "type": "BadRequestError", "code": 400}}
EMBEDDED = {"object": "list", "data": [{"object": "embedding", "index": 0, "embedding": [0.5, -0.5]}]}
USED = {"prompt_tokens": 3, "total_tokens": 3}


class RayIngress(EngineStub):
    """`model`: what the application calls it; `deployed`: whether the proxy knows the application."""

    def __init__(self, replies: Replier, model: str, *, route: str) -> None:
        super().__init__(replies, models=(model,))
        self.route = route
        self.deployed = True
        self.probed = 0
        """How often its models were asked for."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}{self.route}"

    def small_reply(self, method: str, path: str, body: bytes) -> StubReply:
        inner = path.removeprefix(self.route)
        if inner == path or not self.deployed:
            return StubReply(404, f"Path '{path}' not found. Ping http://.../-/routes for available routes.".encode())
        if inner == "/v1/models":
            self.probed += 1
            return super().small_reply(method, inner, body)
        if inner == "/tokenize":
            return StubReply(400, json.dumps(NO_TASK).encode())
        if inner not in (*PASSED, "/v1/embeddings"):
            return StubReply(404, b'{"detail":"Not Found"}')
        self.requests.append(Seen(method, inner, {}, body))
        self.changed.set()
        if json.loads(body).get("model") not in self.models:
            return StubReply(404, json.dumps({"detail": f"Could not find model {json.loads(body)['model']}"}).encode())
        if inner == "/v1/embeddings":
            return StubReply(200, json.dumps({**EMBEDDED, "model": self.models[0], "usage": USED}).encode())
        return self.replies(inner, body)
