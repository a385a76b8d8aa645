from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moorage.catalog import request_body
from moorage.catalog.catalog import Catalog, load_catalog
from moorage.catalog.request_body import MediaItem, build_body, cross_check, find_secret
from moorage.catalog.sampling import defaults
from moorage.errors import UsageError

ROOT = Path(__file__).parents[3]
PNG = "data:image/png;base64,AAAA"
MP4 = "data:video/mp4;base64,AAAA"
TAO = ("cosmos-rl", "cosmos-predict2.5", "tao-dataservices")
ENGINES = ("vllm", "sglang")


@pytest.fixture(scope="module")
def catalog() -> Catalog:
    return load_catalog(ROOT)


def item(url: str, kind: str = "image") -> dict[str, Any]:
    return {"type": f"{kind}_url", f"{kind}_url": {"url": url}}


def text(words: str = "What is it?") -> dict[str, Any]:
    return {"type": "text", "text": words}


def user(*content: Any) -> dict[str, Any]:
    return {"role": "user", "content": list(content)}


def body(*messages: Any, **fields: Any) -> dict[str, Any]:
    return {"messages": list(messages), **fields}


def refusal(catalog: Catalog, arch: str, given_body: Any) -> UsageError:
    with pytest.raises(UsageError) as caught:
        cross_check(catalog, arch, given_body)
    assert caught.value.exit_status == 2
    assert caught.value.hint
    return caught.value


# ---- building -----------------------------------------------------------------------------------------------------


def test_media_come_first_and_text_last(catalog: Catalog) -> None:
    made = build_body(
        catalog,
        "cosmos-rl",
        model=None,
        prompt="What happens?",
        system="Be brief.",
        media=[MediaItem("image", PNG), MediaItem("video", MP4)],
        values={"max_tokens": 5},
    )
    assert made == {
        "messages": [
            {"role": "system", "content": "Be brief."},
            user(item(PNG), item(MP4, "video"), text("What happens?")),
        ],
        "max_tokens": 5,
    }
    assert cross_check(catalog, "cosmos-rl", made) == []


def test_text_alone_is_plain_text(catalog: Catalog) -> None:
    made = build_body(catalog, "vllm", model="org/m", prompt="2+2?", system=None, media=[], values={})
    assert made == {"model": "org/m", "messages": [{"role": "user", "content": "2+2?"}]}


@pytest.mark.parametrize(("arch", "sent"), [("vllm", True), ("sglang", True), *[(arch, False) for arch in TAO]])
def test_the_model_is_named_to_engines_alone(catalog: Catalog, arch: str, sent: bool) -> None:
    made = build_body(catalog, arch, model="m", prompt="x", system=None, media=[], values={})
    assert ("model" in made) == sent
    assert "model" not in build_body(catalog, arch, model=None, prompt="x", system=None, media=[], values={})


def test_media_may_go_without_a_prompt(catalog: Catalog) -> None:
    media = [MediaItem("image", PNG)]
    made = build_body(catalog, "vllm", model=None, prompt=None, system=None, media=media, values={})
    assert made["messages"] == [user(item(PNG))]


@pytest.mark.parametrize(
    "bad", [{"prompt": "a\udcff"}, {"system": "\ud800"}, {"values": {"negative_prompt": "\udfff"}}]
)
def test_text_that_cannot_be_sent_is_refused(catalog: Catalog, bad: dict[str, Any]) -> None:
    wanted: dict[str, Any] = {"model": None, "prompt": "x", "system": None, "media": [], "values": {}} | bad
    with pytest.raises(UsageError) as caught:
        build_body(catalog, "cosmos-predict2.5", **wanted)
    assert caught.value.code == "bad_text"
    caught.value.message.encode()


def test_what_is_built_with_defaults_passes_the_check(catalog: Catalog) -> None:
    for arch in catalog.archs:
        media = [MediaItem("image", PNG)]
        made = build_body(catalog, arch, model="m", prompt="x", system="y", media=media, values=defaults(catalog, arch))
        assert cross_check(catalog, arch, made) == []


# ---- checking: shape ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("arch", TAO + ENGINES)
@pytest.mark.parametrize(
    ("given_body", "words"),
    [
        (None, "not a JSON object"),
        ("{}", "not a JSON object"),
        ({}, "empty object"),
        ({"prompt": "x"}, "messages"),
        (body(), "messages"),
        ({"messages": {}}, "messages"),
        (body("hello"), r"messages\[0\] is not an object"),
        (body({"content": "x"}), r"messages\[0\]\.role"),
        (body({"role": "usr", "content": "x"}), r"messages\[0\]\.role"),
        (body({"role": ["user"], "content": "x"}), r"messages\[0\]\.role"),
        (body({"role": "user", "content": None}), r"messages\[0\]\.content"),
        (body(user()), r"messages\[0\]\.content"),
        (body(user("x")), r"messages\[0\]\.content\[0\]"),
        (body(user({"text": "x"})), r"messages\[0\]\.content\[0\]"),
        (body(user({"type": ["text"]})), r"messages\[0\]\.content\[0\]"),
        (body(user({"type": "text"})), r"messages\[0\]\.content\[0\]\.text"),
        (body(user(text(), {"type": "image_url"})), r"messages\[0\]\.content\[1\]\.image_url\.url"),
        (body(user({"type": "image_url", "image_url": PNG})), r"content\[0\]\.image_url\.url"),
        (body(user({"type": "video_url", "video_url": {"url": 1}})), r"content\[0\]\.video_url\.url"),
        (body({"role": "system", "content": "x"}, {"role": "user", "content": {}}), r"messages\[1\]\.content"),
    ],
)
def test_malformed_bodies_are_refused_with_the_place(catalog: Catalog, arch: str, given_body: Any, words: str) -> None:
    fault = refusal(catalog, arch, given_body)
    assert fault.code == "bad_body"
    assert re.search(words, fault.message)


@pytest.mark.parametrize("arch", TAO)
def test_tao_servers_need_a_user_message_and_known_items(catalog: Catalog, arch: str) -> None:
    assert "user" in refusal(catalog, arch, body({"role": "system", "content": "x"})).message
    audio = {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}}
    assert "content[1].type" in refusal(catalog, arch, body(user(item(PNG), audio))).message


@pytest.mark.parametrize("arch", ENGINES)
def test_engines_are_sent_whole_conversations_untouched(catalog: Catalog, arch: str) -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    conversation = body(
        {"role": "developer", "content": "x"},
        user({"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}}, text()),
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": "4"},
        user(item(PNG)),
        model="m",
        top_k=3,
        return_token_ids=True,
        stop=["x"],
        temperature=None,
        tools=[],
        stream=True,
    )
    before = json.dumps(conversation)
    assert cross_check(catalog, arch, conversation) == []
    assert json.dumps(conversation) == before


# ---- checking: fields ---------------------------------------------------------------------------------------------


def test_fields_of_another_arch_are_refused(catalog: Catalog) -> None:
    fault = refusal(catalog, "cosmos-rl", body(user(item(PNG)), guidance=7, negative_prompt="x"))
    assert fault.code == "unsupported_field"
    for word in ("guidance", "negative_prompt", "cosmos-rl", "cosmos-predict2.5"):
        assert word in fault.message
    assert refusal(catalog, "cosmos-predict2.5", body(user(text()), temperature=0.5)).code == "unsupported_field"


def test_ranges_hold_for_raw_bodies_too(catalog: Catalog) -> None:
    assert refusal(catalog, "cosmos-rl", body(user(item(PNG)), temperature=2.5)).code == "bad_value"
    assert refusal(catalog, "vllm", body(user(text()), max_tokens=0)).code == "bad_value"
    assert refusal(catalog, "cosmos-rl", body(user(item(PNG)), temperature=None)).code == "bad_value"


def test_fields_that_no_arch_knows_pass(catalog: Catalog) -> None:
    for arch in catalog.archs:
        assert cross_check(catalog, arch, body(user(item(PNG)), top_k="x", return_token_ids=1, whatever=None)) == []


# ---- checking: media ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "messages",
    [
        [user(text())],
        [{"role": "user", "content": "x"}],
        [user(text()), user(item(PNG))],
        [{"role": "system", "content": [item(PNG)]}, user(text())],
    ],
)
def test_required_media_must_be_in_the_first_user_message(catalog: Catalog, messages: list[Any]) -> None:
    fault = refusal(catalog, "cosmos-rl", body(*messages))
    assert fault.code == "media_required"
    assert "first user message" in fault.message
    for arch in ("cosmos-predict2.5", "tao-dataservices"):
        cross_check(catalog, arch, body(*messages))


@pytest.mark.parametrize("arch", TAO + ENGINES)
@pytest.mark.parametrize(
    "url",
    [
        *[f"{scheme}://bucket/key.png" for scheme in ("s3", "gs", "az", "cs", "aws", "S3")],
        "file:///tmp/a.png",
        "/tmp/a.png",
        "",
        "ftp://host/a.png",
        "http://",
        "https:///a.png",
        "http://[::1/a.png",
        "javascript:1",
        "data:image/png,AAAA",
        "data:image/png;base64,",
        "data:image/png;base64",
        "data:;base64,AAAA",
        "data:base64,AAAA",
        "data:text/plain;base64,AAAA",
        MP4,
    ],
)
def test_images_that_no_server_reads_are_refused(catalog: Catalog, arch: str, url: str) -> None:
    fault = refusal(catalog, arch, body(user(item(url), text())))
    assert fault.code == "bad_media"
    assert "messages[0].content[0]" in fault.message


@pytest.mark.parametrize("arch", TAO + ENGINES)
@pytest.mark.parametrize("url", ["http://host/a", "https://user@host:8/a?b#c", "HTTPS://host/a.xyz", PNG])
def test_images_that_servers_read_pass(catalog: Catalog, arch: str, url: str) -> None:
    assert cross_check(catalog, arch, body(user(item(url), text()))) == []


@pytest.mark.parametrize(
    ("arch", "kind", "mime", "taken"),
    [
        ("cosmos-rl", "image", "image/jpeg", True),
        ("cosmos-rl", "image", "image/jpg", False),
        ("cosmos-rl", "image", "image/webp", False),
        ("cosmos-rl", "image", "IMAGE/PNG", False),
        ("cosmos-rl", "video", "video/mov", True),
        ("cosmos-rl", "video", "video/quicktime", False),
        ("cosmos-rl", "video", "video/x-matroska", True),
        ("cosmos-predict2.5", "image", "image/webp", True),
        ("cosmos-predict2.5", "video", "video/webm", False),
        ("tao-dataservices", "image", "image/gif", True),
        ("vllm", "image", "image/avif", True),
        ("vllm", "image", "IMAGE/PNG", True),
        ("vllm", "video", "image/png", False),
    ],
)
def test_types_of_data_uris(catalog: Catalog, arch: str, kind: str, mime: str, taken: bool) -> None:
    given_body = body(user(item(f"data:{mime};base64,AAAA", kind)))
    if taken:
        assert cross_check(catalog, arch, given_body) == []
    else:
        fault = refusal(catalog, arch, given_body)
        assert fault.code == "bad_media"
        assert mime in fault.message


@pytest.mark.parametrize("url", ["data:image/png;charset=utf-8;base64,AAAA", "DATA:image/png;base64,AAAA"])
def test_data_uris_that_tao_servers_take_for_a_path_are_refused(catalog: Catalog, url: str) -> None:
    for arch in TAO:
        assert refusal(catalog, arch, body(user(item(url)))).code == "bad_media"
    for arch in ENGINES:
        assert cross_check(catalog, arch, body(user(item(url)))) == []


def test_inline_media_have_a_largest_size(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(request_body, "INLINE_MEDIA_BYTES", 6)
    assert cross_check(catalog, "cosmos-rl", body(user(item("data:image/png;base64,AAAAAAAA")))) == []
    assert refusal(catalog, "cosmos-rl", body(user(item("data:image/png;base64,AAAAAAAAAAAA")))).code == "bad_media"
    assert cross_check(catalog, "vllm", body(user(item("data:image/png;base64,AAAAAAAAAAAA")))) == []


def test_credentials_of_media_are_not_repeated(catalog: Catalog) -> None:
    fault = refusal(catalog, "vllm", body(user(item("s3://hunter2hunter2@bucket/a?sig=hunter2hunter2"))))
    assert "hunter2" not in fault.message + fault.hint


# ---- checking: warnings -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("arch", TAO)
def test_what_a_tao_server_will_not_read_is_warned_about(catalog: Catalog, arch: str) -> None:
    messages = [user(item(PNG), text("a"), text("b")), {"role": "assistant", "content": "x"}, user(item(PNG))]
    warnings = cross_check(catalog, arch, body(*messages))
    assert len(warnings) == 4
    for words in ("2 user messages", "messages[1]", "messages[2].content[0]", "messages[0] has several text items"):
        assert sum(words in warning for warning in warnings) == 1


@pytest.mark.parametrize("arch", TAO)
def test_a_plain_body_warns_of_nothing(catalog: Catalog, arch: str) -> None:
    system = {"role": "system", "content": "x"}
    assert cross_check(catalog, arch, body(system, user(item(PNG), text()), model="anything", top_k=1)) == []


# ---- checking: anything -------------------------------------------------------------------------------------------

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)
URLS = (
    st.sampled_from([PNG, MP4, "s3://b/k", "http://h/x", "data:;,", "data:image/png;x;base64,A", "\ud800://x"])
    | st.text()
)
ITEMS = (
    st.builds(item, URLS, st.sampled_from(["image", "video"]))
    | st.builds(text, st.text())
    | st.fixed_dictionaries({"type": JSON | st.sampled_from(["text", "image_url"])}, optional={"image_url": JSON})
)
MESSAGES = JSON | st.fixed_dictionaries(
    {"role": st.sampled_from(["user", "system", "assistant", "tool"]) | JSON, "content": JSON | st.lists(ITEMS | JSON)}
)
FIELDS = st.sampled_from(
    ["temperature", "top_p", "max_tokens", "guidance", "seed", "negative_prompt", "top_k", "model"]
)
BODIES = JSON | st.builds(
    lambda messages, fields: {**fields, "messages": messages}, st.lists(MESSAGES) | JSON, st.dictionaries(FIELDS, JSON)
)


@given(given_body=BODIES, arch=st.sampled_from(TAO + ENGINES))
def test_any_json_is_checked_without_an_accident(catalog: Catalog, given_body: Any, arch: str) -> None:
    try:
        warnings = cross_check(catalog, arch, given_body)
    except UsageError as fault:
        f"{fault.message} {fault.hint} {json.dumps(fault.data)}".encode()
        assert len(fault.message) < 2000
    else:
        assert all(isinstance(warning, str) for warning in warnings)
        assert isinstance(given_body["messages"], list)


# ---- secrets ------------------------------------------------------------------------------------------------------

SECRETS = st.text(min_size=8, max_size=20).filter(lambda value: len(value.strip()) >= 8)


@given(JSON, SECRETS, st.text(), st.text(), st.booleans(), st.integers(0, 3))
def test_a_secret_is_found_wherever_it_is_written(
    other: Any, secret: str, before: str, after: str, ascii_only: bool, place: int
) -> None:
    holder = f"{before}{secret}{after}"
    found_in: Any = [{"a": [holder]}, {holder: other}, [other, holder], holder][place]
    written = json.dumps(found_in, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")
    assert find_secret(found_in if place < 3 else [holder], {"KEY": secret}) == "KEY"
    assert find_secret(written, {"EMPTY": "", "SHORT": "x", "KEY": secret}) == "KEY"


@given(JSON, st.text(st.characters(codec="utf-8"), min_size=8, max_size=12))
def test_a_secret_that_is_not_there_is_not_found(other: Any, secret: str) -> None:
    absent = "§" + secret + "§"
    if absent not in json.dumps(other, ensure_ascii=False):
        assert find_secret(other, {"KEY": absent}) is None
        assert find_secret(json.dumps(other).encode(), {"KEY": absent}) is None


def test_secrets_behind_escapes_numbers_and_twin_keys_are_found() -> None:
    secrets = {"A": "abcdefgh", "N": "1234567890", "U": "pässwörd"}
    assert find_secret(rb'{"x": "\u0061bcdefgh"}', secrets) == "A"
    assert find_secret(rb'{"x": "\u0061bcdefgh", "x": "last one wins"}', secrets) == "A"
    assert find_secret(b'{"\\u0061bcdefgh": 1}', secrets) == "A"
    assert find_secret({"user": 1234567890}, secrets) == "N"
    assert find_secret({"user": 10**5000}, secrets) is None
    assert find_secret('{"x": "p\\u00e4ssw\\u00f6rd"}'.encode("utf-16"), secrets) == "U"
    assert find_secret(b"not JSON abcdefgh", secrets) == "A"
    assert find_secret(b"[" * 100_000, secrets) is None
    assert find_secret('"abcdefgh"', secrets) == "A"


def test_short_values_and_line_ends_do_not_count() -> None:
    assert find_secret(b'{"x": "abcdefg"}', {"A": "abcdefg"}) is None
    assert find_secret(b'{"x": "abcdefgh"}', {"A": "abcdefgh\n"}) == "A"
    assert find_secret({"x": "         "}, {"A": "         "}) is None
