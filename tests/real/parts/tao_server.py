"""A stand-in for the servers inside the TAO containers, which need a GPU and an image of tens of gigabytes.

It replays what the cloud-free version of TAO's base inference server does, with no model behind it:
- it listens at once and initializes and loads in the background: server_initializing, model_loading, ready;
- liveness is always 200; readiness is 200 or 503 with a top-level `reason` (never 202, no `error`);
- chat completions answer 202 or 503 with `error.type` until ready, 400 for an empty object, bad media and cloud URIs,
  500 for a body that is not JSON or has another content type; the last text of the first user message counts;
- `data:` URIs with parameters are taken for a path; `image/jpg` and `video/quicktime` are unknown to the base server;
- one choice, no usage, no streaming, no /v1/models; the reply's `model` is the model path;
- cosmos-rl reads --job and --docker_env_vars as Python literals (an older container does), and prints them; the
  dataservices server tries JSON first; cosmos-predict2.5 takes neither, knows no job id and replies with a video;
- the oldest version has only /health, /status and /inference.
The reply's text is a JSON object that says what arrived, so that tests can look.

What it does is chosen by a model path `/scenario/NAME[/ARGUMENT]`, else by the variable TAO_SCENARIO=NAME[/ARGUMENT];
see SCENARIOS. Standard library of Python 3.11 only: it runs in a bare image.
"""

from __future__ import annotations

import argparse
import ast
import base64
import json
import os
import re
import sys
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

INITIALIZING, LOADING, READY = "initializing", "loading", "ready"
INIT_FAILED, LOAD_FAILED, NOT_LOADED = "init-failed", "load-failed", "not-loaded"
FOREVER = None

READINESS_REASONS = {
    INITIALIZING: "server_initializing",
    INIT_FAILED: "initialization_failed",
    LOADING: "model_loading",
    LOAD_FAILED: "model_load_failed",
    NOT_LOADED: "model_not_loaded",
}
CHAT_ERRORS = {
    INITIALIZING: (202, "server_initializing"),
    INIT_FAILED: (503, "initialization_error"),
    LOADING: (202, "model_loading"),
    LOAD_FAILED: (503, "model_load_error"),
    NOT_LOADED: (503, "model_not_ready"),
}
STARTING = ((INITIALIZING, 0.1), (LOADING, 0.2))
SCENARIOS: dict[str, tuple[tuple[str, float | None], ...]] = {
    # name: the stages in order, each with its seconds; None: for ever; an argument (a number) replaces the nan
    "ready": (*STARTING, (READY, FOREVER)),
    "slow-init": ((INITIALIZING, float("nan")), (LOADING, 0.2), (READY, FOREVER)),
    "slow": ((INITIALIZING, 0.1), (LOADING, float("nan")), (READY, FOREVER)),
    "never-ready": ((INITIALIZING, 0.1), (LOADING, FOREVER)),
    "not-loaded": (*STARTING, (NOT_LOADED, FOREVER)),
    "init-error": ((INITIALIZING, 0.2), (INIT_FAILED, FOREVER)),
    "load-error": (*STARTING, (LOAD_FAILED, FOREVER)),
    "die-while-loading": ((INITIALIZING, 0.1), (LOADING, float("nan"))),
    "die-after-ready": (*STARTING, (READY, float("nan"))),
    "other-job": (*STARTING, (READY, FOREVER)),  # every body carries another job's id
    "html": (*STARTING, (READY, FOREVER)),  # every answer is 200 with a web page
    "oldest": (*STARTING, (READY, FOREVER)),  # /health, /status and /inference only
    "inference-error": (*STARTING, (READY, FOREVER)),  # each request fails with 500
    "no-choices": (*STARTING, (READY, FOREVER)),  # 200, JSON, and not a chat completion
    "slow-reply": (*STARTING, (READY, FOREVER)),  # a reply takes ARGUMENT seconds
    "crash-at-start": (),  # ends before it listens, with exit code ARGUMENT (17)
}
EXIT_CODE = 17
LOG_LINES = 30

TEXT_SAMPLING = (
    *("max_tokens", "temperature", "top_p", "top_k", "min_p", "repetition_penalty", "frequency_penalty"),
    *("presence_penalty", "seed", "stop", "n", "best_of", "length_penalty", "ignore_eos", "min_tokens"),
    *("fps", "total_pixels"),
)
VIDEO_SAMPLING = ("max_tokens", "guidance", "num_steps", "seed", "negative_prompt")
BASE_MIME_TYPES = {
    *(f"image/{kind}" for kind in ("jpeg", "png", "webp", "gif", "bmp", "tiff")),
    *(f"video/{kind}" for kind in ("mp4", "avi", "webm", "mkv", "x-matroska", "mov")),
}
PREDICT_MIME_TYPES = {"image/jpeg", "image/jpg", "image/png", "image/webp", "video/mp4"}
DATA_URI = re.compile(r"^data:([\w/+.-]+);base64,(.*)$", re.DOTALL)
MODEL_KEYS = ("base-2b", "base-14b", "auto-multiview")
OTHER_JOB_ID = "00000000-0000-4000-8000-000000000000"
PAGE = b"<!doctype html><html><body><h1>Sign in</h1></body></html>"


@dataclass
class Server:
    """What one running server knows; the background thread moves `stage`, the handlers read it."""

    arch: str
    model_path: str
    job_id: str | None
    scenario: str = "ready"
    argument: float = 1.0
    idle_timeout_minutes: float = 30.0
    auto_deletion: bool = True
    stage: str = INITIALIZING
    last_request_s: float = field(default_factory=time.time)

    def play(self) -> None:
        """Go through the scenario's stages; die when they end."""
        for stage, seconds in SCENARIOS[self.scenario]:
            self.stage = stage
            log(f"stage {stage}")
            if stage == READY:
                self.last_request_s = time.time()
            if seconds is FOREVER:
                return
            time.sleep(self.argument if seconds != seconds else seconds)  # nan is unequal to itself
        die(EXIT_CODE, f"CUDA error: an illegal memory access was encountered ({self.stage})")

    def get(self, path: str) -> tuple[int, dict[str, Any] | None]:
        if self.scenario == "html":
            return 200, None
        if self.scenario == "oldest":
            health = {"status": "healthy", "model_loaded": self.stage == READY}
            return {"/health": (200, health), "/status": (200, self.status())}.get(path, (404, None))
        routes = {
            "/api/v1/health/liveness": (200, self.liveness()),
            "/api/v1/health/readiness": self.readiness(),
            "/api/v1/status": (200, self.status()),
        }
        return routes.get(path, (404, None))

    def post(self, path: str, content_type: str, raw: bytes) -> tuple[int, dict[str, Any] | None]:
        if self.scenario == "html":
            return 200, None
        if path == "/v1/chat/completions" and self.scenario != "oldest":
            return self.chat(content_type, raw)
        if path == ("/inference" if self.scenario == "oldest" else "/api/v1/inference"):
            status, body = self.chat(content_type, raw)
            return status, body if status != 200 else {"result": body["choices"][0]["message"]["content"]}
        return 404, None

    def liveness(self) -> dict[str, Any]:
        idle_s = time.time() - self.last_request_s
        return {
            "status": "healthy",
            "model_loaded": self.stage == READY,
            "model_loading": self.stage == LOADING,
            "server_initializing": self.stage == INITIALIZING,
            "job_id": self.job_id,
            "model_type": self.arch,
            "last_request_time": self.last_request_s,
            "idle_time_minutes": round(idle_s / 60, 4),
            "idle_timeout_minutes": self.idle_timeout_minutes,
            "auto_deletion_enabled": self.auto_deletion,
            "progress": {"stage": self.stage, "message": f"stage {self.stage}", "remaining_steps": [], "details": {}},
        }

    def status(self) -> dict[str, Any]:
        return self.liveness() | {
            "initialization_error": "no such checkpoint" if self.stage == INIT_FAILED else None,
            "model_load_error": "out of memory" if self.stage == LOAD_FAILED else None,
            "model_state": self.stage,
            "health_monitor_active": self.stage == READY,
        }

    def readiness(self) -> tuple[int, dict[str, Any]]:
        if self.stage == READY:
            return 200, {"status": "ready", "model_loaded": True, "job_id": self.job_id, "timestamp": time.time()}
        body = {"status": "not_ready", "reason": READINESS_REASONS[self.stage], "message": f"stage {self.stage}"}
        return 503, body | {"job_id": self.job_id, "timestamp": time.time()}

    def chat(self, content_type: str, raw: bytes) -> tuple[int, dict[str, Any]]:
        """Answer one chat completion."""
        if self.stage != READY:
            status, kind = CHAT_ERRORS[self.stage]
            return status, error(kind, f"stage {self.stage}")
        self.last_request_s = time.time()
        try:
            if not content_type.startswith("application/json"):
                raise TypeError(f"415 Unsupported Media Type: {content_type!r}")
            body = json.loads(raw)
            if not body:
                return 400, error("invalid_request", "No data provided")
            if self.scenario == "inference-error":
                raise RuntimeError("CUDA out of memory")
            if self.scenario == "no-choices":
                return 200, {"object": "list", "data": []}
            if self.scenario == "slow-reply":
                time.sleep(self.argument)
            content = self.reply(body)
        except ValueError as fault:
            # A body that is not JSON is a ValueError too, but the JSON reader's is turned into the generic answer.
            if isinstance(fault, json.JSONDecodeError):
                return 500, error("internal_error", f"400 Bad Request: {fault}")
            return 400, error("invalid_request", str(fault))
        except Exception as fault:
            log(f"Traceback (most recent call last): {type(fault).__name__}: {fault}")
            return 500, error("internal_error", str(fault))
        return 200, completion(self.model_path, content)

    def reply(self, body: dict[str, Any]) -> str:
        """The reply's content. Raises ValueError for what the server refuses, OSError for a path that is not there."""
        text, media = read_first_user_message(body)
        predict = self.arch == "cosmos-predict2.5"
        kinds = [check_media(uri, PREDICT_MIME_TYPES if predict else BASE_MIME_TYPES) for uri in media]
        if self.arch == "cosmos-rl" and not media:
            raise ValueError("cosmos-rl needs an image or a video")
        known = VIDEO_SAMPLING if predict else TEXT_SAMPLING
        sampling = {name: body[name] for name in known if name in body}
        if not 0 <= sampling.get("guidance", 0) <= 7:
            raise ValueError("guidance must be between 0 and 7")
        seen = {"text": text, "media": kinds, "sampling": sampling, "ignored": sorted(set(body) - set(known))}
        if not predict:
            return json.dumps(seen)
        seen["mode"] = f"{kinds[0].split('/')[0] if kinds else 'text'}2world"
        return "data:video/mp4;base64," + base64.b64encode(tiny_video(json.dumps(seen).encode())).decode()


def read_first_user_message(body: dict[str, Any]) -> tuple[str, list[str]]:
    """Its last text and its media URIs; system messages and later user messages are not read."""
    messages = body.get("messages")
    user = next((message for message in messages or [] if message.get("role") == "user"), None)
    if user is None:
        raise ValueError("messages must hold a user message")
    content = user.get("content")
    if isinstance(content, str):
        return content, []
    text, media = "", []
    for item in content or []:
        if item.get("type") == "text":
            text = item["text"]
        elif item.get("type") in ("image_url", "video_url"):
            media.append(item[item["type"]]["url"])
    return text, media


def check_media(uri: str, mime_types: set[str]) -> str:
    """The media type, or `image/unknown` for what would be downloaded."""
    if uri.startswith(("http://", "https://")):
        return "image/unknown"
    if re.match(r"^(s3|gs|az|cs|aws)://", uri):
        raise ValueError(f"cloud URIs are not supported: {uri[:20]}")
    found = DATA_URI.match(uri)
    if found is None:
        raise FileNotFoundError(f"[Errno 2] No such file or directory: {uri[:40]!r}")
    if found[1] not in mime_types:
        raise ValueError(f"unsupported media type {found[1]}")
    if not base64.b64decode(found[2], validate=True):
        raise ValueError("empty media")
    return found[1]


def tiny_video(note: bytes) -> bytes:
    """An MP4 of two boxes, `ftyp` and `free`; `note` is in the second."""
    kind = b"ftypisom\x00\x00\x02\x00isommp41"
    return (len(kind) + 4).to_bytes(4, "big") + kind + (len(note) + 8).to_bytes(4, "big") + b"free" + note


def completion(model: str, content: str) -> dict[str, Any]:
    now = int(time.time())
    choice = {"index": 0, "message": {"role": "assistant", "content": content}, "finish_reason": "stop"}
    return {
        "id": f"chatcmpl-{now}",
        "object": "chat.completion",
        "created": now,
        "model": model,
        "choices": [choice],
    }


def error(kind: str, message: str) -> dict[str, Any]:
    return {"error": {"message": message, "type": kind}}


class Handler(BaseHTTPRequestHandler):
    """HTTP around `Server.get` and `Server.post`; an answer without a body is a web page."""

    protocol_version = "HTTP/1.1"
    stand_in: Server

    def do_GET(self) -> None:
        self.answer(*self.stand_in.get(self.path))

    def do_POST(self) -> None:
        raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.answer(*self.stand_in.post(self.path, self.headers.get("Content-Type", ""), raw))

    def answer(self, status: int, body: dict[str, Any] | None) -> None:
        data = PAGE if body is None else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/html; charset=utf-8" if body is None else "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


def read_command_line(arch: str, arguments: list[str]) -> tuple[Server, int]:
    """The server that the command line asks for, and its port."""
    parser = argparse.ArgumentParser(prog=arch, allow_abbrev=False)
    parser.add_argument("--port", type=int, default=8080)
    if arch == "cosmos-predict2.5":
        model = parser.add_mutually_exclusive_group(required=True)
        model.add_argument("--checkpoint-path")
        model.add_argument("--model", choices=MODEL_KEYS)
        parser.add_argument("--output-dir", default="/tmp/cosmos-predict2.5-output")
        parser.add_argument("--idle-timeout-minutes", type=float, default=30.0)
        parser.add_argument("--context-parallel-size", type=int)
        parser.add_argument("--pid-file")
        for flag in ("--disable-guardrails", "--offload-guardrail-models", "--offload-diffusion-model"):
            parser.add_argument(flag, action="store_true")
        options = parser.parse_args(arguments)
        Path(options.output_dir).mkdir(parents=True, exist_ok=True)
        path = options.checkpoint_path or options.model
        return Server(arch, path, None, idle_timeout_minutes=options.idle_timeout_minutes), options.port

    parser.add_argument("--job", required=True)
    parser.add_argument("--docker_env_vars", required=True)
    parser.add_argument("--idle_timeout_minutes", type=float, default=30.0)
    parser.add_argument("--disable_auto_deletion", action="store_true")
    options = parser.parse_args(arguments)
    log(f"job: {options.job}")
    log(f"docker_env_vars: {options.docker_env_vars}")
    job = read_literal(options.job, json_first=arch != "cosmos-rl")
    read_literal(options.docker_env_vars, json_first=arch != "cosmos-rl")
    server = Server(arch, job["specs"]["model_path"], job["job_id"], idle_timeout_minutes=options.idle_timeout_minutes)
    server.auto_deletion = not options.disable_auto_deletion
    return server, options.port


def read_literal(text: str, *, json_first: bool) -> dict[str, Any]:
    if json_first:
        try:
            return json.loads(text)
        except ValueError:
            pass
    return ast.literal_eval(text)


def choose_scenario(server: Server) -> None:
    chosen = os.environ.get("TAO_SCENARIO", "ready")
    if server.model_path.startswith("/scenario/"):
        chosen = server.model_path.removeprefix("/scenario/")
    server.scenario, _, argument = chosen.strip("/").partition("/")
    server.argument = float(argument or (EXIT_CODE if server.scenario == "crash-at-start" else 1))
    if server.scenario not in SCENARIOS:
        sys.exit(f"no scenario {server.scenario!r}; there are {', '.join(SCENARIOS)}")
    if server.scenario == "other-job":
        server.job_id = OTHER_JOB_ID


def log(line: str) -> None:
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


def die(code: int, message: str) -> None:
    log("Traceback (most recent call last):")
    for number in range(1, LOG_LINES + 1):
        log(f'  File "server.py", line {number}, in frame_{number}')
    log(f"RuntimeError: {message}")
    os._exit(code)


def main(arch: str, arguments: list[str]) -> None:
    if arch == "cosmos-predict2.5":
        if arguments[:2] != ["inference_microservice", "start"]:
            sys.exit("usage: cosmos_predict inference_microservice start ...")
        arguments = arguments[2:]
    server, port = read_command_line(arch, arguments)
    choose_scenario(server)
    if server.scenario == "crash-at-start":
        die(int(server.argument), "no kernel image is available for execution on the device")
    listener = ThreadingHTTPServer(("0.0.0.0", port), type("Bound", (Handler,), {"stand_in": server}))
    log(f" * Running on http://0.0.0.0:{port} (model {server.model_path})")
    threading.Thread(target=server.play, daemon=True).start()
    listener.serve_forever()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
