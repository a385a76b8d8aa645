"""The gateway's OpenAPI document, an engine that knows all its routes, and replies held against it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jsonschema
import requests

from moorage.gateway import documentation
from tests.stand_ins.canned_replies import CannedReplies
from tests.stand_ins.stub_reply import StubReply

DOCUMENT = documentation.document()


def operations() -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, item in DOCUMENT["paths"].items():
        for method, operation in item.items():
            yield method.upper(), path, operation


def check_declared(name: str, reply: requests.Response) -> None:
    """That content type and content are as the document says."""
    [operation] = [one for item in DOCUMENT["paths"].values() for one in item.values() if one["operationId"] == name]
    declared = operation["responses"][str(reply.status_code)].get("content", {})
    content_type = reply.headers["content-type"].partition(";")[0]
    assert content_type in declared
    if content_type.endswith("json"):
        schema = {**declared[content_type]["schema"], "components": DOCUMENT["components"]}
        jsonschema.Draft202012Validator(schema).validate(reply.json())


class Moods:
    """A canned engine that also embeds, tokenizes and scores prompts, unless its mood is worse."""

    def __init__(self) -> None:
        self._canned = CannedReplies("stub", prompt_ids=12, sampled=6)
        self.mood = "well"

    def __call__(self, path: str, body: bytes) -> StubReply:
        if self.mood == "garbage":
            return StubReply(ready=b"SSH-2.0-OpenSSH_9.2\r\n")
        if self.mood == "silent":
            return StubReply(ready=b"")
        if path == "/v1/embeddings":
            return StubReply(200, b'{"object":"list","data":[],"model":"stub","usage":{}}')
        if path == "/tokenize" and self.mood != "no tokenizer":
            return StubReply(200, b'{"count":2,"max_model_len":99,"tokens":[4,5]}')
        if b'"prompt_logprobs"' in body and self.mood != "no tokenizer":
            return StubReply(200, b'{"choices":[{"prompt_logprobs":[null,{"5":{"logprob":-0.5,"rank":1}}]}]}')
        return self._canned(path, body)
