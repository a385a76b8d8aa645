"""What a request makes of each answer: real services in every state, and a recorder for answers that no state gives."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from tests.conftest import Answer
from tests.contract.recorder import Recorder
from tests.contract.stand_ins import StandIns, until
from tests.contract.terminal import Terminal

TEXT = "tao-dataservices"
SCENARIOS = {
    # scenario: is it waited for
    "ready": True,
    "inference-error": True,
    "no-choices": True,
    "slow-reply/20": True,
    "never-ready": False,
    "not-loaded": False,
    "load-error": False,
    "init-error": False,
}
ASKED = ["--prompt", "x", "--accept-defaults", "--json"]


@pytest.fixture(scope="module")
def ids(shared: StandIns) -> dict[str, str]:
    """Scenario → a service that plays it; and `video`, a ready one of cosmos-predict2.5."""
    ids = {scenario: shared.new_id() for scenario in [*SCENARIOS, "video"]}
    starts = [
        shared.popen_start(scenario, *([] if waited else ["--no-wait"]), arch=TEXT, job_id=ids[scenario])
        for scenario, waited in SCENARIOS.items()
    ]
    starts.append(shared.popen_start(arch="cosmos-predict2.5", job_id=ids["video"]))
    for start in starts:
        out, err = start.communicate(timeout=120)
        assert start.returncode == 0, (out, err)
    for scenario, reason in (("load-error", "model_load_failed"), ("init-error", "initialization_failed")):
        until(lambda job_id=ids[scenario], why=reason: shared.seen(job_id)["reason"] == why, f"{scenario} has failed")
    return ids


@pytest.mark.parametrize(
    ("scenario", "rc", "code"),
    [
        ("inference-error", 8, "server_error"),
        ("no-choices", 8, "bad_reply"),
        ("never-ready", 7, "not_ready"),
        ("not-loaded", 7, "not_ready"),
        ("load-error", 8, "model_load_error"),
        ("init-error", 8, "initialization_error"),
    ],
)
def test_what_a_state_of_the_server_means(
    shared: StandIns, ids: dict[str, str], scenario: str, rc: int, code: str
) -> None:
    done = shared.here("request", "--job-id", ids[scenario], *ASKED)
    assert (done.rc, done.out["error"]["code"]) == (rc, code), done
    if scenario == "inference-error":
        assert "CUDA out of memory" in done.out["error"]["message"]
    if rc == 8 and code != "bad_reply":
        assert done.out["error"]["next"] == [f"moor logs {ids[scenario]}"]


def test_a_failed_service_is_no_candidate_for_a_request(shared: StandIns, ids: dict[str, str], tmp_path: Path) -> None:
    """Its process lives, but its model could not be loaded: the list says so, and so must the choice."""
    state = shared.read_state()
    file = tmp_path / "state.json"
    file.write_text(json.dumps({ids[name]: state[ids[name]] for name in ("ready", "load-error")}))
    env = {"MOORAGE_STATE_FILE": str(file)}
    listed = shared.here("list", "--json", env=env).out["data"]["services"]
    assert {entry["job_id"]: entry["state"] for entry in listed} == {ids["ready"]: "ready", ids["load-error"]: "failed"}
    assert shared.here("request", *ASKED, env=env).out["data"]["job_id"] == ids["ready"]
    assert shared.here("stop", "--dry-run", "--json", env=env).rc == 4
    pruned = shared.here("prune", "--dry-run", "--json", env=env).out["data"]["pruned"]
    assert pruned == [ids["load-error"]]


def test_a_loading_server_is_asked_again(local: StandIns) -> None:
    local.start("slow/1.5", "--no-wait", arch=TEXT)
    assert local.moor("request", *ASKED).rc in (7, 9)  # 9 before it listens
    assert local.moor("request", *ASKED, "--wait", "60").rc == 0


def test_the_wait_ends(shared: StandIns, ids: dict[str, str]) -> None:
    began = time.monotonic()
    done = shared.here("request", "--job-id", ids["never-ready"], *ASKED, "--wait", "1.5")
    assert (done.rc, time.monotonic() - began > 1.5) == (7, True)
    assert f"moor wait {ids['never-ready']}" in done.out["error"]["next"]


def test_a_slow_answer_is_given_up(shared: StandIns, ids: dict[str, str]) -> None:
    began = time.monotonic()
    done = shared.here("request", "--job-id", ids["slow-reply/20"], *ASKED, "--timeout", "1", "--wait", "60")
    assert (done.rc, done.out["error"]["code"]) == (9, "timeout")
    assert time.monotonic() - began < 15


def test_what_the_server_refuses_is_told_in_its_words(shared: StandIns, ids: dict[str, str]) -> None:
    done = shared.here("request", "--job-id", ids["ready"], *ASKED, "--image", "data:image/png;base64,!!!!")
    assert (done.rc, done.out["error"]["code"]) == (2, "bad_request")
    assert "400 invalid_request" in done.out["error"]["message"]


CHOICE = {"index": 0, "message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}


@pytest.mark.parametrize(
    ("status", "body", "rc"),
    [
        (200, {"choices": [CHOICE]}, 0),
        (200, {"choices": [{"message": {"content": None, "tool_calls": [{"id": "1"}]}}]}, 0),
        (200, {"choices": []}, 8),
        (200, {"choices": [{"message": {"content": 7}}]}, 8),
        (200, [], 8),
        (200, None, 8),
        (202, {"error": {"type": "model_loading", "message": "soon"}}, 7),
        (503, {"error": {"type": "model_not_ready", "message": "soon"}}, 7),
        (503, {"error": {"type": "model_load_error", "message": "never"}}, 8),
        (503, {"error": {"type": "initialization_error", "message": "never"}}, 8),
        (503, {"error": "busy"}, 9),
        (429, {"error": {"message": "busy"}}, 9),
        (400, {"error": {"type": "invalid_request", "message": "no"}}, 2),
        (404, {"detail": "no such model"}, 2),
        (401, {}, 5),
        (500, {"error": {"type": "internal_error", "message": "oh"}}, 8),
        (302, {}, 8),
    ],
)
def test_what_each_answer_means(
    shared: StandIns, ids: dict[str, str], tmp_path: Path, status: int, body: object, rc: int
) -> None:
    with Recorder(status, json.dumps(body).encode()) as recorder:
        done = ask_recorder(shared, ids, tmp_path, recorder)
    assert done.rc == rc, done
    assert len(recorder.bodies) == 1
    if rc == 0:
        assert done.out["data"]["response"] == body
        assert done.out["data"]["content"] == body["choices"][0]["message"]["content"]
    elif isinstance(body, dict) and isinstance(body.get("error"), dict):
        assert body["error"]["message"] in done.out["error"]["message"]


@pytest.mark.parametrize("body", [b"<html>", b"\xff\xfe", b"", b"[" * 100_000, b'{"choices": [{"message": "x"}]}'])
def test_a_200_that_is_no_completion(shared: StandIns, ids: dict[str, str], tmp_path: Path, body: bytes) -> None:
    with Recorder(200, body, "text/html") as recorder:
        done = ask_recorder(shared, ids, tmp_path, recorder)
    assert (done.rc, done.out["error"]["code"]) == (8, "bad_reply")


def test_nobody_answers(shared: StandIns, ids: dict[str, str], tmp_path: Path) -> None:
    with Recorder() as gone:
        pass
    done = ask_recorder(shared, ids, tmp_path, gone)
    assert (done.rc, done.out["error"]["code"]) == (9, "no_connection")


def ask_recorder(shared: StandIns, ids: dict[str, str], folder: Path, recorder: Recorder) -> Answer:
    """As if the ready service answered on the recorder's port."""
    file = folder / "state.json"
    entry = {**shared.read_state()[ids["ready"]], "host_url": f"http://localhost:{recorder.port}"}
    file.write_text(json.dumps({ids["ready"]: entry}))
    return shared.here("request", *ASKED, env={"MOORAGE_STATE_FILE": str(file)})


def test_a_video_is_saved_to_a_file(shared: StandIns, ids: dict[str, str], tmp_path: Path) -> None:
    ask = ["request", "--job-id", ids["video"], *ASKED]
    given = shared.here(*ask, "--output", tmp_path / "given.mp4").out["data"]
    here = [shared.here(*ask, folder=tmp_path).out["data"] for _ in range(2)]
    named = [Path(data["output_file"]) for data in (given, *here)]
    assert named[0] == tmp_path / "given.mp4"
    assert [path.parent for path in named] == [tmp_path] * 3
    assert len(set(named)) == 3
    for data, path in zip((given, *here), named, strict=True):
        assert data["content"] is None
        uri = data["response"]["choices"][0]["message"]["content"]
        assert path.read_bytes() == decode(uri)
    assert sorted(tmp_path.iterdir()) == sorted(named)


def decode(uri: str) -> bytes:
    import base64

    assert uri.startswith("data:video/mp4;base64,")
    return base64.b64decode(uri.partition(",")[2])


@pytest.mark.parametrize("output", [".", "no/such/folder/x.mp4"])
def test_a_place_that_cannot_be_written_is_refused_before_anything_is_sent(
    shared: StandIns, ids: dict[str, str], output: str
) -> None:
    before = shared.here("logs", ids["video"], "--json").out["data"]["lines"]
    done = shared.here("request", "--job-id", ids["video"], *ASKED, "--output", output)
    assert (done.rc, done.out["error"]["code"]) == (2, "bad_output")
    after = shared.here("logs", ids["video"], "--json").out["data"]["lines"]
    assert [line for line in after[len(before) :] if "POST" in line] == []


@pytest.mark.parametrize("stream", [[], ["--stream"]])
def test_a_server_that_does_not_stream_gives_one_chunk_and_a_note(
    shared: StandIns, ids: dict[str, str], stream: list[str]
) -> None:
    done = shared.here("request", "--job-id", ids["ready"], *ASKED, *stream)
    objects = done.out if stream else [done.out]
    envelope = objects[-1]
    assert envelope["ok"]
    assert set(envelope["data"]) == {"job_id", "content", "response", "output_file"}
    if stream:
        assert objects[:-1] == [{"delta": envelope["data"]["content"]}]
        notes = [json.loads(line) for line in done.err.splitlines()]
        assert any("do not stream" in note["message"] for note in notes)


def test_a_video_is_no_delta(shared: StandIns, ids: dict[str, str], tmp_path: Path) -> None:
    done = shared.here("request", "--job-id", ids["video"], *ASKED, "--stream", "--output", tmp_path / "v.mp4")
    assert done.out["data"]["output_file"] == str(tmp_path / "v.mp4")


def test_for_people_the_reply_alone_is_on_stdout(shared: StandIns, ids: dict[str, str]) -> None:
    words = ["request", "--job-id", ids["ready"], "--prompt", "grüße", "--accept-defaults"]
    plain, streamed = (shared.moor(*words, *more) for more in ([], ["--stream"]))
    assert plain.out["text"] == streamed.out["text"] == "grüße"


def test_on_a_terminal_all_fields_are_asked_in_one_round(shared: StandIns, ids: dict[str, str]) -> None:
    """Enter takes the default, a value out of range is asked again, what was given is not asked."""
    words = ["request", "--job-id", ids["video"], "--prompt", "x", "--num-steps", "20", "--dry-run"]
    with Terminal(words, shared.environ) as terminal:
        for field, answer in (
            ("max_tokens", ""),
            ("guidance", "9"),
            ("guidance", "3"),
            ("seed", ""),
            ("negative_prompt", "blurry"),
        ):
            terminal.type_at("]: ", f"{answer}\n")
            terminal.await_text(field)
        rc, out = terminal.finish()
    assert rc == 0, terminal.shown
    sampling = {name: value for name, value in json.loads(out)["body"].items() if name != "messages"}
    assert sampling == {"max_tokens": 77, "guidance": 3, "num_steps": 20, "seed": 0, "negative_prompt": "blurry"}
    assert "guidance is 9" in terminal.shown
    assert "num_steps" not in terminal.shown


@pytest.mark.parametrize("key", ["\x04", "\x03"], ids=["end of input", "ctrl-c"])
def test_a_question_that_is_not_answered_ends_it(shared: StandIns, ids: dict[str, str], key: str) -> None:
    with Terminal(["request", "--job-id", ids["video"], "--prompt", "x"], shared.environ) as terminal:
        terminal.type_at("]: ", key)
        assert terminal.finish() == (130, "")
    assert "error: interrupted" in terminal.shown
    assert "Traceback" not in terminal.shown


def test_with_json_a_terminal_is_never_asked(shared: StandIns, ids: dict[str, str]) -> None:
    with Terminal(["request", "--job-id", ids["video"], "--prompt", "x", "--json"], shared.environ) as terminal:
        rc, out = terminal.finish()
    assert (rc, json.loads(out)["error"]["code"]) == (2, "sampling_required")
