"""What a request takes, sends and refuses, on real services of the stand-in, which says what arrived."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Answer
from tests.contract.recorder import Recorder
from tests.contract.stand_ins import TAO_ARCHS, StandIns

TEXT = "tao-dataservices"
VIDEO = "cosmos-predict2.5"
PICTURE = "cosmos-rl"
REQUIRED = {
    PICTURE: ["--max-tokens", "--temperature", "--top-p"],
    TEXT: ["--max-tokens", "--temperature", "--top-p"],
    VIDEO: ["--guidance", "--max-tokens", "--num-steps", "--seed"],
}
DEFAULTS = {
    PICTURE: {"max_tokens": 1024, "temperature": 0.7, "top_p": 0.8},
    TEXT: {"max_tokens": 1024, "temperature": 0.7, "top_p": 0.8},
    VIDEO: {"max_tokens": 77, "guidance": 7, "num_steps": 35, "seed": 0},
}


@pytest.fixture(scope="module")
def ids(shared: StandIns) -> dict[str, str]:
    """Arch → its service."""
    starts = {arch: shared.popen_start(arch=arch, job_id=shared.new_id()) for arch in TAO_ARCHS}
    outs = {arch: start.communicate(timeout=120)[0] for arch, start in starts.items()}
    return {arch: json.loads(out)["data"]["job_id"] for arch, out in outs.items()}


class Ask:
    """`moor request` to the service of an arch."""

    def __init__(self, shared: StandIns, ids: dict[str, str], folder: Path) -> None:
        self.shared, self.ids, self.folder = shared, ids, folder
        self.picture = shared.picture()

    def __call__(self, arch: str, *words: str | Path, **options: Any) -> Answer:
        target = ["--job-id", self.ids[arch], "--json"]
        return self.shared.here("request", *target, *words, folder=self.folder, **options)

    def service_at(self, port: int) -> Path:
        """A state file in which the service of TEXT, alive, answers on another port of this machine."""
        state = self.shared.read_state()
        entry = {**state[self.ids[TEXT]], "host_url": f"http://localhost:{port}"}
        file = self.folder / "other-state.json"
        file.write_text(json.dumps({self.ids[TEXT]: entry}))
        return file

    def plan(self, arch: str, *words: str | Path) -> dict[str, Any]:
        """The body that would be sent."""
        done = self(arch, *words, "--dry-run")
        assert done.rc == 0, done
        body: dict[str, Any] = done.out["data"]["plan"]["body"]
        return body

    def seen(self, arch: str, *words: str | Path, **options: Any) -> dict[str, Any]:
        """What the service says arrived."""
        done = self(arch, *words, **options)
        assert done.rc == 0, done
        if arch != VIDEO:
            return json.loads(done.out["data"]["content"])
        video = Path(done.out["data"]["output_file"]).read_bytes()
        return json.loads(video.partition(b"free")[2])


@pytest.fixture
def ask(shared: StandIns, ids: dict[str, str], tmp_path: Path) -> Ask:
    return Ask(shared, ids, tmp_path)


@pytest.mark.parametrize("arch", TAO_ARCHS)
def test_without_a_terminal_each_field_is_given_or_the_defaults_are_accepted(ask: Ask, arch: str) -> None:
    picture = ["--image", ask.picture]
    refused = ask(arch, "--prompt", "x", *picture)
    assert (refused.rc, refused.out["error"]["code"]) == (2, "sampling_required")
    said = refused.out["error"]["message"] + refused.out["error"]["hint"]
    assert all(flag in said for flag in [*REQUIRED[arch], "--accept-defaults"])
    assert "--negative-prompt" not in said

    partly = ask(arch, "--prompt", "x", *picture, "--max-tokens", "5")
    assert partly.rc == 2
    assert "--max-tokens" not in partly.out["error"]["message"]
    assert ask.seen(arch, "--prompt", "x", *picture, "--accept-defaults")["sampling"] == DEFAULTS[arch]
    given = [word for flag in REQUIRED[arch] for word in (flag, "1")]
    seen = ask.seen(arch, "--prompt", "x", *picture, *given)["sampling"]
    assert seen == dict.fromkeys(DEFAULTS[arch], 1)
    both = ask.seen(arch, "--prompt", "x", *picture, "--accept-defaults", "--max-tokens", "5")["sampling"]
    assert both == DEFAULTS[arch] | {"max_tokens": 5}


@pytest.mark.parametrize(
    ("arch", "words", "named"),
    [
        (TEXT, ["--temperature", "-0.1"], "temperature"),
        (PICTURE, ["--temperature", "2.01"], "temperature"),
        (TEXT, ["--top-p", "0"], "top_p"),
        (TEXT, ["--top-p", "1.5"], "top_p"),
        (TEXT, ["--top-p", "nan"], "--top-p"),
        (TEXT, ["--max-tokens", "0"], "max_tokens"),
        (TEXT, ["--max-tokens", "1.5"], "--max-tokens"),
        (TEXT, ["--max-tokens", "many"], "--max-tokens"),
        (VIDEO, ["--guidance", "8"], "guidance"),
        (VIDEO, ["--guidance", "-1"], "guidance"),
        (VIDEO, ["--num-steps", "0"], "num_steps"),
    ],
)
def test_a_value_out_of_range_is_refused_and_never_clamped(ask: Ask, arch: str, words: list[str], named: str) -> None:
    done = ask(arch, "--prompt", "x", "--image", ask.picture, "--accept-defaults", *words)
    assert (done.rc, named in done.out["error"]["message"]) == (2, True), done


@pytest.mark.parametrize("value", ["0", "0.05", "2"])
def test_a_value_in_range_arrives_as_it_was_given(ask: Ask, value: str) -> None:
    seen = ask.seen(TEXT, "--prompt", "x", "--accept-defaults", "--temperature", value)
    assert seen["sampling"]["temperature"] == float(value)


@pytest.mark.parametrize(
    ("arch", "field", "taker"),
    [
        (VIDEO, "temperature", TEXT),
        (VIDEO, "top_p", TEXT),
        (TEXT, "guidance", VIDEO),
        (PICTURE, "negative_prompt", VIDEO),
    ],
)
def test_a_field_of_another_arch_is_refused_naming_it(
    ask: Ask, arch: str, field: str, taker: str, tmp_path: Path
) -> None:
    body = tmp_path / "body.json"
    body.write_text(json.dumps({"messages": [{"role": "user", "content": "x"}], field: 1}))
    flag = f"--{field.replace('_', '-')}"
    for words in (["--prompt", "x", "--image", ask.picture, "--accept-defaults", flag, "1"], ["--raw-body", body]):
        done = ask(arch, *words)
        assert done.rc == 2
        message = done.out["error"]["message"]
        assert all(word in message for word in (field, arch, taker)), message


def test_media_are_required_optional_and_first(ask: Ask) -> None:
    missing = ask(PICTURE, "--prompt", "x", "--accept-defaults")
    assert (missing.rc, missing.out["error"]["code"]) == (2, "media_required")
    assert ask.seen(VIDEO, "--prompt", "x", "--accept-defaults")["mode"] == "text2world"
    assert ask.seen(VIDEO, "--prompt", "x", "--image", ask.picture, "--accept-defaults")["mode"] == "image2world"
    body = ask.plan(PICTURE, "--prompt", "x", "--image", ask.picture, "--video", "http://h/v.mp4", "--accept-defaults")
    kinds = [item["type"] for item in body["messages"][-1]["content"]]
    assert kinds == ["image_url", "video_url", "text"]
    assert body["messages"][-1]["content"][0]["image_url"]["url"].startswith("data:image/png;base64,")


@pytest.mark.parametrize("suffix", [".jpg", ".jpeg", ".png", ".bmp", ".tiff"])
def test_every_picture_is_of_a_type_the_server_knows(ask: Ask, suffix: str, tmp_path: Path) -> None:
    file = tmp_path / f"a{suffix}"
    file.write_bytes(b"\xff\xd8")
    (media,) = ask.seen(PICTURE, "--prompt", "x", "--image", file, "--accept-defaults")["media"]
    assert media == {".jpg": "image/jpeg", ".jpeg": "image/jpeg"}.get(suffix, f"image/{suffix[1:]}")


@pytest.mark.parametrize(
    ("suffix", "mime"), [(".mov", "video/mov"), (".mkv", "video/x-matroska"), (".avi", "video/avi")]
)
def test_every_video_too(ask: Ask, suffix: str, mime: str, tmp_path: Path) -> None:
    file = tmp_path / f"A{suffix.upper()}"
    file.write_bytes(b"x")
    assert ask.seen(TEXT, "--prompt", "x", "--video", file, "--accept-defaults")["media"] == [mime]


@pytest.mark.parametrize(
    "media", ["s3://b/a.png", "gs://b/a.png", "no-such.png", ".", "a.exe", "ftp://h/a.png", "", "data:image/png,x"]
)
def test_media_that_the_server_could_not_read(ask: Ask, media: str, tmp_path: Path) -> None:
    (tmp_path / "a.exe").write_bytes(b"x")
    done = ask(PICTURE, "--prompt", "x", f"--image={media}", "--accept-defaults")
    assert (done.rc, done.out["error"]["code"]) == (2, "bad_media"), done


def test_the_system_message_goes_first(ask: Ask) -> None:
    body = ask.plan(TEXT, "--prompt", "x", "--system", "be brief", "--accept-defaults")
    assert body["messages"] == [{"role": "system", "content": "be brief"}, {"role": "user", "content": "x"}]


def test_a_field_without_a_default_may_stay_away(ask: Ask) -> None:
    assert "negative_prompt" not in ask.plan(VIDEO, "--prompt", "x", "--accept-defaults")
    body = ask.plan(VIDEO, "--prompt", "x", "--accept-defaults", "--negative-prompt", "")
    assert body["negative_prompt"] == ""


def test_a_raw_body_is_sent_byte_for_byte(ask: Ask, tmp_path: Path) -> None:
    """A key twice, odd spaces, escapes and an unknown field: none of it survives being parsed and written again."""
    message = b'{"role":"user","content":"gr\\u00fc\xc3\x9fe"}'
    raw = b'{ "x_unknown": 1.50,\n"messages" : [%s], "max_tokens": 1, "max_tokens": 2}\n' % message
    body = tmp_path / "body.json"
    body.write_bytes(raw)
    with Recorder() as recorder:
        service = ask.service_at(recorder.port)
        done = ask(TEXT, "--raw-body", body, env={"MOORAGE_STATE_FILE": str(service)})
    assert (done.rc, recorder.bodies) == (8, [raw]), done
    assert ask.seen(TEXT, "--raw-body", body)["text"] == "grüße"


@pytest.mark.parametrize(
    "words",
    [
        ["--prompt", "x"],
        ["--system", "x"],
        ["--image", "a.png"],
        ["--video", "a.mp4"],
        ["--seed", "1"],
        ["--top-p", "1"],
    ],
    ids=" ".join,
)
def test_a_raw_body_excludes_what_it_takes_the_place_of(ask: Ask, words: list[str], tmp_path: Path) -> None:
    body = tmp_path / "body.json"
    body.write_text('{"messages": [{"role": "user", "content": "x"}]}')
    done = ask(TEXT, "--raw-body", body, *words)
    assert (done.rc, words[0] in done.out["error"]["message"]) == (2, True)


@pytest.mark.parametrize("data", [b"", b"{}", b"[]", b"{", b'"x"', b"\xff", b'{"messages": []}', b"[" * 100_000])
def test_a_raw_body_that_is_none(ask: Ask, data: bytes, tmp_path: Path) -> None:
    body = tmp_path / "body.json"
    body.write_bytes(data)
    assert ask(TEXT, "--raw-body", body).rc == 2


@pytest.mark.parametrize("name", ["no-such.json", "."])
def test_a_raw_body_that_cannot_be_read(ask: Ask, name: str) -> None:
    done = ask(TEXT, "--raw-body", name)
    assert (done.rc, name in done.out["error"]["message"]) == (2, True)


def test_a_second_user_message_is_sent_with_a_warning(ask: Ask, tmp_path: Path) -> None:
    body = tmp_path / "body.json"
    body.write_text(json.dumps({"messages": [{"role": "user", "content": text} for text in ("first", "second")]}))
    done = ask(TEXT, "--raw-body", body)
    assert json.loads(done.out["data"]["content"])["text"] == "first"
    assert "the first alone" in done.err


def test_no_prompt(ask: Ask) -> None:
    done = ask(TEXT, "--accept-defaults")
    assert (done.rc, "--prompt" in done.out["error"]["hint"]) == (2, True)
