"""In the place of `python3 -m vllm.entrypoints.openai.api_server`, for tests in which the engine is not the point.

It takes the flags that the arch `vllm` is started with, listens where they say, and answers `/health`, `/v1/models`,
`/v1/chat/completions` and the routes of LoRA adapters with the fields of vLLM 0.32. A model's folder says how it
behaves: `broken` in its name ends it with an error, `slow` keeps it from ever being ready.
"""

from __future__ import annotations

import itertools
import json
import os
import shlex
import stat
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

FLAGS = ("--model", "--served-model-name", "--host", "--port")


def install(folder: Path) -> Path:
    """A Python that has this as its vLLM: the value of `MOORAGE_VLLM_PYTHON`."""
    python = folder / "python3"
    python.parent.mkdir(parents=True, exist_ok=True)
    python.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -S {shlex.quote(__file__)} "$@"\n')
    python.chmod(python.stat().st_mode | stat.S_IXUSR)
    return python


class Server(ThreadingHTTPServer):
    """One engine; `adapters` are those loaded, by name."""

    daemon_threads = True

    def __init__(self, words: list[str]) -> None:
        given = dict(itertools.pairwise(words))
        self.model, self.served, host, port = (given[flag] for flag in FLAGS)
        self.words = words
        self.adapters: dict[str, str] = {}
        super().__init__((host, int(port)), Handler)


class Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if self.path == "/health":
            self._say(503 if "slow" in self.server.model else 200, {})
        elif self.path == "/v1/models":
            served = self.server.served
            cards = [{"id": served, "object": "model", "root": self.server.model, "parent": None}]
            cards += [
                {"id": name, "object": "model", "root": path, "parent": served}
                for name, path in self.server.adapters.items()
            ]
            self._say(200, {"object": "list", "data": cards})
        elif self.path == "/stub/started":
            self._say(200, {"words": self.server.words, "pid": os.getpid(), "env": dict(os.environ)})
        else:
            self._say(404, {"detail": "Not Found"})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)))
        if self.path == "/v1/load_lora_adapter" and self._has_lora():
            self._load(body)
        elif self.path == "/v1/unload_lora_adapter" and self._has_lora():
            known = self.server.adapters.pop(body["lora_name"], None)
            self._say(404 if known is None else 200, {} if known else _error("cannot be found"))
        elif self.path == "/v1/chat/completions":
            choice = {"index": 0, "message": {"role": "assistant", "content": "4"}, "finish_reason": "stop"}
            self._say(200, {"id": "stub", "object": "chat.completion", "model": body["model"], "choices": [choice]})
        else:
            self._say(404, {"detail": "Not Found"})

    def log_message(self, format: str, *args: Any) -> None:
        _log(format % args)

    def _has_lora(self) -> bool:
        return "--enable-lora" in self.server.words and os.environ.get("VLLM_ALLOW_RUNTIME_LORA_UPDATING") == "1"

    def _load(self, body: dict[str, Any]) -> None:
        name, path = body["lora_name"], body["lora_path"]
        if not (Path(path) / "adapter_config.json").is_file():
            self._say(404, _error(f"The lora adapter '{name}' cannot be found at {path}"))
        elif name in self.server.adapters and not body.get("load_inplace"):
            self._say(400, _error(f"The lora adapter '{name}' has already been loaded"))
        else:
            self.server.adapters[name] = path
            self._say(200, {"ok": True})

    def _say(self, status: int, body: dict[str, Any]) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


def _log(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def _error(message: str) -> dict[str, Any]:
    return {"error": {"message": message, "type": "InvalidUserInput", "code": 400}}


def main(words: list[str]) -> None:
    """`-c` is the question whether the package is there; anything else is a start."""
    if words[:1] == ["-c"]:
        return
    server_words = words[2:]
    _log(" ".join(["starting", *server_words]))
    model = server_words[server_words.index("--model") + 1]
    if "broken" in model:
        time.sleep(0.1)
        _log("ValueError: the weights are of another model")
        sys.exit(1)
    Server(server_words).serve_forever()


if __name__ == "__main__":
    main(sys.argv[1:])
