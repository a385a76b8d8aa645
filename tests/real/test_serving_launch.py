"""A declared model on stock vLLM by the launch backend: scaled, given adapters, and with a replica killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
import urllib.request
import uuid
from pathlib import Path
from typing import Any

import pytest

from moorage.launch.entry import Entry
from moorage.launch.plane import Plane
from moorage.launch.processes import identity_from, session_members
from moorage.launch.stop import stop
from moorage.serving.backends.contract import AppState, Seen, Wanted
from moorage.serving.backends.launch.arguments import command_words
from moorage.serving.backends.launch.backend import LaunchBackend
from moorage.serving.backends.launch.looking import labels_of
from moorage.serving.backends.launch.starting import Terms
from moorage.serving.spec.spec import Adapter, ServingSpec
from tests.contract.platform_contract import free_port
from tests.real.parts.tiny_lora import make_tiny_lora

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(600)]

SCOPE = f"real {uuid.uuid4().hex}"
"""A lost registry is made again from all that runs here, services of other tests among it."""
KWARGS = {
    "max_model_len": 512,
    "max_num_seqs": 4,
    "enforce_eager": True,
    "num_gpu_blocks_override": 128,
    "reasoning_parser": "qwen3",
}
READY_WITHIN_S = 400.0


def wanted_of(nano: Path, replicas: int, lora: tuple[Adapter, ...]) -> Wanted:
    spec = ServingSpec(model_id="nano", model_source=str(nano), num_replicas=replicas, engine_kwargs=KWARGS, lora=lora)
    key = "svc-alice-20260101-000000-abcd"
    return Wanted(app=f"{key}-{spec.build()}", model_key=key, model_id="alice-202601010000-nano", spec=spec)


def until(backend: LaunchBackend, app: str, replicas: int) -> Seen:
    deadline = time.monotonic() + READY_WITHIN_S
    while True:
        seen = backend.observe().get(app)
        assert seen is None or seen.state is not AppState.FAILED, seen
        if seen is not None and seen.state is AppState.RUNNING and seen.replicas_ready == replicas:
            return seen
        assert time.monotonic() < deadline, seen
        time.sleep(0.25)


def answer(seen: Seen, model: str, index: int = 0) -> str:
    """What a replica says, greedily."""
    body = {
        "model": model,
        "messages": [{"role": "user", "content": "What is 2+2?"}],
        "max_tokens": 24,
        "temperature": 0,
    }
    asked = urllib.request.Request(
        f"{seen.endpoints[index].base_url}/chat/completions",
        json.dumps(body).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(asked, timeout=120) as reply:
        message: dict[str, Any] = json.loads(reply.read())["choices"][0]["message"]
    return f"{message.get('reasoning')}{message.get('content')}"


def test_a_model_scales_learns_and_survives_a_kill(nano, vllm_python, state_file, tmp_path):
    plane = Plane({**os.environ, "MOORAGE_VLLM_PYTHON": str(vllm_python)})
    backend = LaunchBackend(plane, Terms(accelerator="cpu"), scope=SCOPE, drain_s=0.0)
    poet = Adapter(name="poet", source=str(make_tiny_lora(nano, tmp_path / "poet", seed=1)))
    clerk = Adapter(name="clerk", source=str(make_tiny_lora(nano, tmp_path / "clerk", seed=2)))
    try:
        one = wanted_of(nano, 1, (poet,))
        backend.apply([one])
        seen = until(backend, one.app, 1)
        first = _leaders(plane)
        plain = answer(seen, one.model_id)
        assert answer(seen, "poet") != plain

        both = wanted_of(nano, 2, (poet, clerk))
        backend.apply([both])
        assert answer(backend.observe()[one.app], "clerk") != plain, "it came without a restart, while another starts"
        seen = until(backend, one.app, 2)
        assert first < _leaders(plane)
        for index in (0, 1):
            assert (answer(seen, one.model_id, index), answer(seen, "clerk", index) != plain) == (plain, True)

        (killed,) = first
        for pid in session_members(killed):
            os.kill(pid, signal.SIGKILL)
        smaller = wanted_of(nano, 1, (clerk,))
        backend.apply([smaller])
        seen = until(backend, one.app, 1)
        assert seen.endpoints[0].adapters == ("clerk",)
        assert (answer(seen, one.model_id), answer(seen, "clerk") != plain) == (plain, True)
        backend.apply([])
        _until_gone(backend)
        assert not plane.platform("local-process").find() or not _leaders(plane)
    finally:
        backend.close()
        for entry in _entries(plane):
            stop(plane, entry)


def test_one_command_from_nothing_to_an_answer(moor, vllm_python):
    """`moor serve up` with vLLM, asked once more as any client would, and `down`."""
    env = {"MOORAGE_VLLM_PYTHON": str(vllm_python)}
    ports = ("--port", str(free_port()), "--inference-port", str(free_port()))
    up = moor("serve", "up", "--backend", "launch", *ports, "--json", env=env, timeout=READY_WITHIN_S)
    try:
        assert up.rc == 0, (up.out, up.err)
        data = up.out["data"]
        assert "4" in data["answer"]
        body = {"model": data["model_alias"], "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 4}
        asked = urllib.request.Request(
            f"{data['openai_base_url']}/chat/completions",
            json.dumps(body).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(asked, timeout=120) as reply:
            assert json.loads(reply.read())["choices"][0]["message"]
    finally:
        down = moor("serve", "down", "--json", env=env, timeout=120)
    assert (down.rc, down.out["data"]["ended"]) == (0, ["the gateway", "the api", "1 replica"])
    assert moor("list", "--json", env=env).out["data"]["services"] == []


def test_the_engine_reads_every_kind_of_argument_as_it_was_meant(vllm_python):
    kwargs = {
        "max_model_len": 128,
        "gpu_memory_utilization": 0.5,
        "enforce_eager": True,
        "enable_prefix_caching": False,
        "hf_overrides": {"a": [1]},
        "dtype": "float32",
        "enable_auto_tool_choice": True,
        "tool_call_parser": "hermes",
        "quantization": None,
    }
    program = (
        "import json, sys\n"
        "from vllm.entrypoints.launchers.cli_args import make_arg_parser\n"
        "from vllm.utils.argparse_utils import FlexibleArgumentParser\n"
        "found = make_arg_parser(FlexibleArgumentParser()).parse_args(sys.argv[2:])\n"
        "print(json.dumps({name: getattr(found, name) for name in json.loads(sys.argv[1])}))\n"
    )
    words = command_words(kwargs)
    done = subprocess.run(
        [vllm_python, "-c", program, json.dumps(list(kwargs)), *words], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert json.loads(done.stdout.splitlines()[-1]) == kwargs


def _leaders(plane: Plane) -> set[Any]:
    return {identity_from(entry) for entry in _entries(plane) if "pid" in entry}


def _entries(plane: Plane) -> list[Entry]:
    return [one for one in plane.registry.read().services.values() if labels_of(one).get("scope") == SCOPE]


def _until_gone(backend: LaunchBackend) -> None:
    deadline = time.monotonic() + 60
    while backend.observe():
        assert time.monotonic() < deadline
        time.sleep(0.1)
