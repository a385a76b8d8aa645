"""What every command promises: where it writes, what it exits with, and that it never waits for input."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from moorage.cli.main import VERBS
from tests.contract.stand_ins import StandIns, processes_of

TEXT = "tao-dataservices"
WRONG = [
    ([], 2),
    (["--json"], 2),
    (["lsit"], 2),
    (["list", "extra"], 2),
    (["list", "--jsn"], 2),
    (["list", "--jso"], 2),
    (["start"], 2),
    (["start", "--network-arch", "vllm"], 2),
    (["start", "--network-arch", "vlm", "--model-path", "hf_model://a/b"], 2),
    (["start", "--network-arch", "vllm", "--model-path", "s3://bucket/model"], 2),
    (["start", "--network-arch", "vllm", "--model-path", "/a/../b"], 2),
    (["start", "--network-arch", "vllm", "--model-path", "hf_model://a/b", "--num-gpus", "0"], 2),
    (["start", "--network-arch", "vllm", "--model-path", "hf_model://a/b", "--num-gpus", "one"], 2),
    (["start", "--network-arch", "vllm", "--model-path", "hf_model://a/b", "--platform", "dokcer"], 2),
    (["start", "--network-arch", "vllm", "--model-path", "hf_model://a/b", "--pull", "maybe"], 2),
    (["start", "--network-arch", "vllm", "--model-path", "hf_model://a/b", "--job-id", "latest"], 2),
    (["start", "--network-arch", "vllm", "--model-path", "hf_model://a/b", "--wait", "soon"], 2),
    (["start", "--network-arch", "cosmos-predict2.5", "--model-path", "hf_model://a/b"], 2),
    (["status"], 3),
    (["status", "latest"], 3),
    (["logs", "--tail", "-1"], 2),
    (["stop", "--all", "someone"], 2),
    (["stop", "--", "x"], 2),
    (["request", "--prompt", "x", "--accept-defaults"], 3),
    (["request", "--timeout", "0"], 2),
    (["request", "--prompt"], 2),
    (["recover", "--platform", "brevv"], 2),
    (["doctor", "--platform", "brevv"], 2),
    (["image", "cosmos-r1"], 2),
    (["validate", "/no/such/folder"], 2),
]


@pytest.mark.parametrize(("words", "rc"), WRONG, ids=[" ".join(words) or "nothing" for words, _ in WRONG])
def test_a_wrong_command_line(local: StandIns, words: list[str], rc: int) -> None:
    """One JSON object with all its keys, also when the parser itself gives up; for people nothing on stdout."""
    ours, extra = (words[:-2], words[-2:]) if "--" in words else (words, [])
    done = local.here(*ours, *([] if "--json" in ours else ["--json"]), *extra)
    assert done.rc == rc, done
    assert set(done.out["error"]) == {"code", "message", "hint", "next"}
    assert done.out["ok"] is False
    assert set(done.out) <= {"ok", "error", "data"}
    if words and "--json" not in words:
        plain = local.here(*words)
        assert (plain.rc, list(plain.out)) == (rc, [])
        assert plain.err.startswith(f"error: {done.out['error']['message']}\n")
    assert not local.state_file.exists()


@pytest.mark.parametrize(
    ("words", "near"),
    [
        (["strat"], "start"),
        (["list", "--josn"], "--json"),
        (["request", "--promt", "x"], "--prompt"),
        (["start", "--modle-path", "hf_model://a/b"], "--model-path"),
        (["start", "--network-arch=vllm", "--model-path=hf_model://a/b", "--platform=local-proces"], "local-process"),
        (["start", "--network-arch=vlllm", "--model-path=hf_model://a/b"], "vllm"),
        (["start", "--network-arch=vllm", "--model-path=hf_model://a/b", "--pull=nevr"], "never"),
        (["image", "cosmos-predict"], "cosmos-predict2.5"),
    ],
)
def test_the_nearest_name_is_told(local: StandIns, words: list[str], near: str) -> None:
    done = local.here(*words, "--json")
    assert (done.rc, done.out["error"]["hint"]) == (2, f"did you mean {near}?")


@pytest.mark.parametrize("verb", VERBS)
def test_help_is_a_result_and_begins_with_the_verb(local: StandIns, verb: str) -> None:
    plain, as_json = local.here(verb, "--help"), local.here(verb, "--help", "--json")
    assert (plain.rc, plain.out.startswith(f"usage: moor {verb}")) == (0, True)
    assert as_json.out == {"ok": True, "data": {"help": plain.out.rstrip("\n") + "\n"}}


@pytest.mark.parametrize("redirection", ["<&-", "</dev/null", "2>&-", "2>/dev/full", "<&- 2>&-"])
def test_streams_that_are_closed_or_full(local: StandIns, redirection: str) -> None:
    """Nothing waits for input, and talk that cannot be told fails nothing."""
    prefix = ["sh", "-c", f'exec "$@" {redirection}', "sh"]
    start = local.moor(*local.words(arch=TEXT), env=local.env(), prefix=prefix)
    assert (start.rc, start.out["data"]["state"]) == (0, "ready")
    asked = local.moor("request", "--prompt", "x", "--json", prefix=prefix)
    assert (asked.rc, asked.out["error"]["code"]) == (2, "sampling_required")
    assert local.moor("stop", "--json", prefix=prefix).rc == 0


@pytest.mark.parametrize("words", [["archs"], ["archs", "--json"], ["status"], ["status", "--json"], ["--help"]])
@pytest.mark.parametrize("sink", ["| true", ">&-", ">/dev/full"])
def test_a_result_that_nobody_reads(local: StandIns, words: list[str], sink: str) -> None:
    """No traceback, and an exit status that is ours: Python's own for a broken pipe at the end is 120."""
    script = f'("$@"; echo $? >{local.state_file}.rc) {sink}'
    done = local.moor(*words, prefix=["sh", "-c", script, "sh"])
    rc = int(Path(f"{local.state_file}.rc").read_text())
    assert rc == (3 if words[0] == "status" else 6 if "full" in sink else 0), done
    if "full" in sink:
        assert ("result could not be written" if rc == 6 else "no service is running") in done.err
    assert "Traceback" not in done.err
    assert "Exception" not in done.err


def test_what_ascii_cannot_show_is_escaped(local: StandIns) -> None:
    env = {"PYTHONIOENCODING": "ascii"}
    assert local.moor("--help", env=env).rc == 0
    local.start(arch=TEXT)
    asked = local.moor("request", "--prompt", "grüße 模型", "--accept-defaults", env=env)
    assert (asked.rc, asked.out["text"]) == (0, "grüße 模型")


def test_a_name_in_no_known_encoding(local: StandIns) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "moorage.cli.main", "status", b"caf\xe9", "--json"],
        env={**local.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        check=False,
    )
    assert (done.returncode, json.loads(done.stdout)["error"]["code"]) == (3, "not_found")


def test_logs_follow_to_the_end_and_then_tell_the_same(local: StandIns) -> None:
    job_id = local.start("die-after-ready/0.5", "--no-wait")["job_id"]
    followed = local.moor("logs", "--follow", "--json", "--tail", "3")
    *lines, envelope = followed.out
    assert all(set(line) == {"line"} for line in lines)
    assert envelope == {"ok": True, "data": {"job_id": job_id, "lines": [line["line"] for line in lines]}}
    whole = local.moor("logs", "--json").out["data"]["lines"]
    assert whole[-len(lines) :] == envelope["data"]["lines"]
    assert "RuntimeError" in whole[-1]
    for more in ([], ["--follow"]):
        assert local.here("logs", *more).out.splitlines() == whole
    assert local.moor("logs", "--tail", "0", "--json").out["data"]["lines"] == []


def test_following_is_ended_by_ctrl_c(local: StandIns) -> None:
    local.start("never-ready", "--no-wait")
    follow = local.moor.popen("logs", "--follow", "--json")
    assert json.loads(follow.stdout.readline())["line"]
    follow.terminate()
    out, err = follow.communicate(timeout=30)
    assert (follow.returncode, json.loads(out.splitlines()[-1])["error"]["code"]) == (130, "interrupted")
    assert err == ""


def test_talk_is_one_json_object_a_line(stand_ins: StandIns) -> None:
    start = stand_ins.try_start("slow/0.3")
    events = [json.loads(line) for line in start.err.splitlines()]
    assert {"launch", "wait"} <= {event["event"] for event in events}
    assert all(isinstance(event["message"], str) and event["elapsed_s"] >= 0 for event in events)
    stop = stand_ins.moor("stop", "--json")
    assert [json.loads(line)["message"] for line in stop.err.splitlines()] == [
        f"Stopping job_id={start.out['data']['job_id']}"
    ]


def test_dry_runs_change_nothing(local: StandIns) -> None:
    entry = local.start(arch=TEXT)
    state, before = local.state_file.stat(), local.state_file.read_bytes()
    lock = Path(f"{local.state_file}.lock").stat()
    new_id = local.new_id()
    plans = {
        "start": local.moor(*local.words("ready", "--dry-run", "--ttl", "1h", job_id=new_id)),
        "request": local.moor("request", "--prompt", "x", "--accept-defaults", "--dry-run", "--json"),
        "stop": local.moor("stop", "--dry-run", "--json"),
        "prune": local.moor("prune", "--dry-run", "--json"),
    }
    assert [answer.rc for answer in plans.values()] == [0] * 4, plans
    assert set(plans["start"].out["data"]["plan"]) == {
        *("job_id", "platform", "network_arch", "image", "command", "env", "secret_env", "port"),
    }
    plan = plans["request"].out["data"]["plan"]
    assert (plan["job_id"], plan["url"]) == (entry["job_id"], f"{entry['host_url']}/v1/chat/completions")
    assert plan["body"]["messages"] == [{"role": "user", "content": "x"}]
    assert plans["stop"].out["data"] == {"plan": {"job_ids": [entry["job_id"]]}}
    now = local.state_file.stat()
    assert (local.state_file.read_bytes(), now.st_mtime_ns, now.st_ino) == (before, state.st_mtime_ns, state.st_ino)
    assert Path(f"{local.state_file}.lock").stat().st_atime_ns == lock.st_atime_ns
    assert len(list(local.state_file.parent.iterdir())) == 2
    assert (local.left_of(new_id), processes_of(new_id)) == ([], [])
    assert local.seen(entry["job_id"])["state"] == "ready"
    assert "/v1/chat/completions" not in repr(local.moor("logs", "--json").out)


@pytest.mark.parametrize("platform", ["local-process", "local-docker"])
def test_a_dry_start_needs_no_engine_and_makes_no_file(local: StandIns, tmp_path: Path, platform: str) -> None:
    env = {
        "DOCKER_HOST": f"unix://{tmp_path}/no.sock",
        "MOORAGE_STATE_FILE": str(tmp_path / "no" / "state.json"),
        "PATH": "/nowhere",
    }
    words = ["start", "--network-arch", "cosmos-rl", "--model-path", "/m", "--platform", platform, "--dry-run"]
    plan = local.moor(*words, "--json", env=env).out["data"]["plan"]
    assert plan["command"].startswith("umask 0 && cosmos-rl-inference-microservice --job ")
    assert plan["port"] in range(8080, 8200)
    assert plan["env"] == {
        "TAO_EXECUTION_BACKEND": "local-docker",
        "TAO_API_JOB_ID": plan["job_id"],
        "CLOUD_BASED": "False",
    }
    assert not (tmp_path / "no").exists()


def test_the_inner_command_is_the_same_on_both_platforms(local: StandIns) -> None:
    words = ["start", "--network-arch", "cosmos-rl", "--model-path", "/m", "--job-id", local.new_id(), "--dry-run"]
    plans = [
        local.here(*words, "--json", "--platform", name).out["data"]["plan"]
        for name in ("local-process", "local-docker")
    ]
    assert plans[0]["command"] == plans[1]["command"]


def test_a_program_that_is_not_there(local: StandIns) -> None:
    done = local.here(*local.words(), env={"PATH": "/usr/bin:/bin"})
    assert (done.rc, "cosmos-rl-inference-microservice" in done.out["error"]["message"]) == (5, True)
    assert local.read_state() == {}


def test_no_engine(local: StandIns, tmp_path: Path) -> None:
    """A service of a platform that cannot be asked is unknown and keeps its entry, whatever is tried."""
    env = {"DOCKER_HOST": f"unix://{tmp_path}/no.sock"}
    entry = {"job_id": "a", "platform": "local-docker", "network_arch": TEXT, "host_url": "http://localhost:1"}
    local.write_state({"a": entry, "latest": "a"})
    assert local.here("list", "--json", env=env).out["data"]["services"][0]["state"] == "unknown"
    words = ["start", "--network-arch", TEXT, "--model-path", "/m", "--platform", "local-docker", "--json"]
    start = local.here(*words, env=env)
    assert (start.rc, "DOCKER_HOST" in start.out["error"]["hint"]) == (5, True)
    for words in (["stop"], ["logs"], ["recover", "--platform", "local-docker"]):
        assert local.here(*words, "--json", env=env).rc == 9, words
    asked = local.here("request", "--prompt", "x", "--accept-defaults", "--json", env=env)
    assert asked.rc == 9
    assert set(local.read_state()) == {"a", "latest"}


@pytest.mark.docker
def test_an_engine_without_gpus_names_the_flag(in_docker: StandIns) -> None:
    job_id = in_docker.new_id()
    words = [word for word in in_docker.words(job_id=job_id) if word not in ("--gpus", "none")]
    done = in_docker.moor(*words)
    if done.rc == 0:
        pytest.skip("this engine has GPUs")
    assert (done.rc, "--gpus none" in done.out["error"]["hint"]) == (5, True)
    assert in_docker.left_of(job_id) == []


@pytest.mark.docker
def test_an_image_that_is_not_there(in_docker: StandIns) -> None:
    job_id = in_docker.new_id()
    image = "127.0.0.1:1/nobody/nothing:1"
    done = in_docker.try_start(job_id=job_id, env={"IMAGE_COSMOS_RL": image})
    assert (done.rc, done.out["error"]["next"]) == (5, [f"docker pull {image}"])
    assert in_docker.left_of(job_id) == []
