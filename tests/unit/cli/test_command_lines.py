"""Whatever is typed: an exit status of the list, one JSON object on stdout, and never a traceback."""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moorage.cli.main import VERBS, main
from moorage.launch.interrupts import SIGNALS

EXITS = {0, 2, 3, 4, 5, 6, 7, 8, 9}
DRY = ("start", "request", "stop", "prune")
"""Verbs that could start, ask or end something: they get --dry-run."""
NOT_FUZZED = ("quickstart", "engine", "validate", "doctor", "gateway", "serve")
"""They install, write generated files, look at the whole machine, or serve until they are told to stop."""

ENTRIES = {
    "a": {"network_arch": "vllm", "platform": "local-process", "host_url": "http://localhost:1", "host_port": 8080},
    "b": {"network_arch": "cosmos-rl", "platform": "slurm", "host_url": 7, "started_at": "yesterday"},
    "c": {"platform": None, "state": ["odd"], "host_port": "8080", "reaper": {"pid": "x"}, "starter": 3, "pid": -1},
}
FLAGS = [
    *("--network-arch", "--model-path", "--platform", "--num-gpus", "--gpus", "--model-key", "--mount", "--host-port"),
    *("--job-id", "--pull", "--wait", "--no-wait", "--ttl", "--idle-timeout", "--tail", "--timeout", "--prompt"),
    *("--system", "--image", "--video", "--max-tokens", "--top-p", "--temperature", "--guidance", "--num-steps"),
    *("--seed", "--negative-prompt", "--accept-defaults", "--raw-body", "--stream", "--output", "--all", "--help"),
    *("--runtime", "--forget", "--x", "-h", "--", "-1", "-"),
]
VALUES = [
    *(
        "a",
        "b",
        "c",
        "latest",
        "vllm",
        "VLLM",
        "cosmos-rl",
        "cosmos-predict2.5",
        "local-process",
        "local-docker",
        "brev",
    ),
    *("hf_model://a/b", "/m", "s3://a/b", "..", "/", "0", "1", "-1", "1e9", "nan", "99999999999999999999", "10s", "2h"),
    *("none", "0,1", "always", "never", "/a:/b", "/a:/b:ro", "http://h/x.png", "data:image/png;base64,AA==", "{}"),
    "00000000-0000-4000-8000-000000000000",
]
TEXT = st.text(st.characters(exclude_characters="\0"), max_size=12)
"""No command line can hold a NUL."""
VALUE = st.sampled_from(VALUES) | TEXT
WORD = (
    st.sampled_from(FLAGS) | VALUE | st.tuples(st.sampled_from(FLAGS), VALUE).map(lambda pair: f"{pair[0]}={pair[1]}")
)
VERB = st.sampled_from([verb for verb in VERBS if verb not in NOT_FUZZED]) | TEXT
PAIRS = st.lists(st.tuples(st.sampled_from(FLAGS), VALUE), max_size=5)
MOST_FLAGS = PAIRS.map(lambda pairs: [word for pair in pairs for word in pair])


@given(verb=VERB, words=st.lists(WORD, max_size=6))
def test_any_words(verb: str, words: list[str]) -> None:
    check(verb, words)


@given(verb=st.sampled_from(DRY), words=MOST_FLAGS)
def test_known_flags_with_any_values(verb: str, words: list[str]) -> None:
    check(verb, words)


@given(arch=st.sampled_from(["vllm", "cosmos-rl", "cosmos-predict2.5", "tao-dataservices", "sglang"]), words=MOST_FLAGS)
@settings(max_examples=60)
def test_starts_that_might_be_right(arch: str, words: list[str]) -> None:
    check("start", ["--network-arch", arch, "--model-path", "hf_model://org/model", *words])


@given(data=st.binary(max_size=40) | st.sampled_from([b'{"a": {}}', b'{"latest": {}}', b'{"a": {"job_id": 1}}']))
@settings(max_examples=60)
@pytest.mark.parametrize("verb", ["list", "stop", "status", "prune", "request"])
def test_any_state_file(verb: str, data: bytes) -> None:
    check(verb, ["--prompt", "x", "--accept-defaults"] if verb == "request" else [], state=data)


FIELDS = [
    *("network_arch", "platform", "host_url", "docker_url", "host_port", "started_at", "state", "image", "model_path"),
    *("served_model_name", "ttl_s", "idle_timeout_s", "starter", "reaper", "pid", "started", "log_file", "exit_file"),
    *("stop_requested_at", "job_id"),
]
ODD = (
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT | st.sampled_from(VALUES) | st.just([]) | st.just({})
)
ENTRY = st.dictionaries(st.sampled_from(FIELDS), ODD, max_size=6)
ON_A_PLATFORM = st.builds(
    lambda entry, platform: {**entry, "platform": platform},
    ENTRY,
    st.sampled_from(["local-process", "local-docker", "slurm", None]),
)


@given(entry=ON_A_PLATFORM, job_id=TEXT.filter(lambda text: text not in ("latest", "")))
@settings(max_examples=60)
@pytest.mark.parametrize("verb", ["list", "status", "wait", "logs", "request", "stop", "prune"])
def test_any_entry(verb: str, entry: dict[str, object], job_id: str) -> None:
    """Also for real, not only as a dry run."""
    words = {"wait": ["--timeout", "0"], "request": ["--prompt", "x", "--accept-defaults"]}.get(verb, [])
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "state.json"
        file.write_text(json.dumps({job_id: entry}))
        rc, out, err = run_here([verb, "--json", *words], file, Path(folder))
        assert rc in EXITS, (rc, out, err)
        assert "internal" not in json.loads(out).get("error", {}).get("code", ""), out
        assert "Traceback" not in err


def check(verb: str, words: list[str], *, state: bytes | None = None) -> None:
    """Run with --json, and --dry-run where it matters."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "state.json"
        file.write_bytes(json.dumps(ENTRIES).encode() if state is None else state)
        before = file.read_bytes()
        options = ["--json", *(["--dry-run"] if verb in DRY else [])]
        rc, out, err = run_here([verb, *options, *words], file, Path(folder))
        assert rc in EXITS, (rc, out, err)
        assert "internal" not in out, out
        answer = json.loads(out)
        assert answer["ok"] == (rc == 0)
        assert set(answer) <= ({"ok", "data"} if rc == 0 else {"ok", "error", "data"})
        assert "Traceback" not in err
        for line in err.splitlines():
            json.loads(line)
        if verb in DRY or rc == 2:
            assert file.read_bytes() == before


def run_here(words: Sequence[str], state_file: Path, folder: Path) -> tuple[int, str, str]:
    """(exit status, stdout, stderr) of a command in this process, with engines that cannot be reached."""
    out, err = io.StringIO(), io.StringIO()
    environ = {"MOORAGE_STATE_FILE": str(state_file), "HOME": str(folder), "PATH": "/nowhere", "NO_COLOR": "1"}
    environ["DOCKER_HOST"] = f"unix://{folder}/no.sock"
    streams = contextlib.redirect_stdout(out), contextlib.redirect_stderr(err)
    with as_a_program(environ), contextlib.chdir(folder), streams[0], streams[1]:
        rc = main(words)
    return rc, out.getvalue(), err.getvalue()


@contextlib.contextmanager
def as_a_program(environ: dict[str, str]) -> Iterator[None]:
    """With this environment alone; what a program changes for good is put back."""
    before, hook, stdin = dict(os.environ), sys.unraisablehook, sys.stdin
    handlers = {number: signal.getsignal(number) for number in SIGNALS}
    os.environ.clear()
    os.environ.update(environ)
    sys.stdin = None  # type: ignore[assignment]
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
        sys.unraisablehook, sys.stdin = hook, stdin
        for number, handler in handlers.items():
            signal.signal(number, handler)
