"""Text to ids and back, against the tokenizers library itself, and without dummy prefixes at seams."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st

from moorage.engines.rendering.escaping import NONCHARACTERS, Escape
from moorage.engines.rendering.tokenizer import Tokenizer
from moorage.engines.tokenizer_files import load_tokenizer
from moorage.errors import PreflightError, UsageError
from tests.unit.engines.rendering.families import CHATML, FAMILIES, NOW, ROOT, TAGS, model
from tests.unit.engines.rendering.vocabularies import byte_level, sentence_piece

SPECS = {
    "bytes": byte_level(CHATML, TAGS),
    "always": sentence_piece(["<s>", "</s>"], scheme="always"),
    "first": sentence_piece(["<s>", "</s>"], scheme="first"),
    "legacy": sentence_piece(["<s>", "</s>"], scheme="legacy"),
    "never": sentence_piece(["<s>", "</s>"], ["\n\n"], scheme="never"),
}
texts = st.text(st.sampled_from("abc The fox. 你🦊\n\té'▁ "), max_size=24)


def loaded(name):
    return Tokenizer.from_json(SPECS[name], {"bos_token": "<s>", "eos_token": "</s>"}, None)


@pytest.mark.parametrize("name", SPECS)
@settings(max_examples=40, deadline=None)
@given(text=texts)
def test_a_whole_prompt_is_encoded_as_the_library_does(name, text):
    library = tokenizers.Tokenizer.from_str(SPECS[name].decode())
    ids = loaded(name).encode_whole(text)
    assert ids == library.encode(text, add_special_tokens=False).ids
    assert loaded(name).decode(ids, skip_special=False) == library.decode(ids, skip_special_tokens=False)


@pytest.mark.parametrize("name", SPECS)
@settings(max_examples=40, deadline=None)
@given(text=texts)
def test_text_after_a_seam_stands_for_itself_alone(name, text):
    one = loaded(name)
    normal = text.replace("▁", " ") if name != "bytes" else text
    assert one.join_bytes(one.encode(text)) == normal.encode()


@pytest.mark.parametrize("name", SPECS)
@settings(max_examples=40, deadline=None)
@given(before=texts, after=texts)
def test_text_that_begins_at_a_special_token_encodes_alone_as_in_its_place(name, before, after):
    """What proves a tail."""
    one = loaded(name)
    special = "<|im_end|>" if name == "bytes" else "</s>"
    whole, tail = one.encode_whole(before + special + after), one.encode(special + after)
    assert whole[len(whole) - len(tail) :] == tail
    assert tail[0] in one.atomic_ids
    assert whole[: len(whole) - len(tail)] == one.encode_whole(before)


@pytest.mark.parametrize("name", SPECS)
def test_a_seam_before_a_special_token_and_after_it(name):
    one = loaded(name)
    special = "<|im_end|>" if name == "bytes" else "</s>"
    ids = one.encode(f"fox{special}The fox")
    at = ids.index(one.encode(special)[0])
    assert one.join_bytes(ids[:at]) == b"fox"
    assert ids[at:] == one.encode_whole(f"{special}The fox")


def test_bos_stands_once():
    spec = json.loads(SPECS["first"])
    bos = next(token["id"] for token in spec["added_tokens"] if token["content"] == "<s>")
    spec["post_processor"] = {
        "type": "TemplateProcessing",
        "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 0}}],
        "special_tokens": {"<s>": {"id": "<s>", "ids": [bos], "tokens": ["<s>"]}},
    }
    one = Tokenizer.from_json(json.dumps(spec).encode(), {"bos_token": {"content": "<s>"}}, None)
    assert one.bos_id == bos
    assert one.encode_fresh("The fox").count(bos) == 1
    assert one.encode_fresh("<s>The fox").count(bos) == 1
    assert bos not in one.encode("The fox") + one.encode_whole("The fox")


def test_half_a_character_is_refused():
    one = loaded("bytes")
    for encode in (one.encode, one.encode_whole, one.encode_fresh):
        with pytest.raises(UsageError) as caught:
            encode("a\ud800b")
        assert caught.value.code == "text_not_unicode"


def test_truncation_and_padding_of_a_file_are_not_done():
    spec = json.loads(SPECS["bytes"])
    spec["truncation"] = {"direction": "Right", "max_length": 2, "strategy": "LongestFirst", "stride": 0}
    one = Tokenizer.from_json(json.dumps(spec).encode(), {}, None)
    assert len(one.encode_whole("a b c d e f")) > 2


@pytest.mark.parametrize("family", FAMILIES, ids=str)
def test_escaped_special_tokens_are_text(family):
    """Each one that a user writes is text; the template's own are tokens; other messages are as they were."""
    one = model(family.name)
    tokenizer = one.tokenizer
    specials = sorted(tokenizer.special_texts)
    said = "a " + " b ".join(specials) + " c"
    messages = [{"role": "user", "content": said}]
    escape = Escape(tokenizer, messages)
    ids = escape.encode_whole(one.template.render(escape.messages, now=NOW))
    plain = one.whole([{"role": "user", "content": "a"}])
    count = sum(token in tokenizer.special_ids for token in ids)
    assert count == sum(token in tokenizer.special_ids for token in plain)
    whole = one.whole(messages)
    spaced = [tokenizer.decode(one, skip_special=False).replace(" ", "") for one in (ids, whole)]
    assert spaced[0] == spaced[1]
    harmless = [{"role": "user", "content": "nothing special <b>"}]
    free = Escape(tokenizer, harmless)
    assert free.encode_whole(one.template.render(free.messages, now=NOW)) == one.whole(harmless)


def test_messages_with_every_noncharacter_cannot_be_escaped():
    with pytest.raises(UsageError):
        Escape(loaded("bytes"), [{"role": "user", "content": ["".join(NONCHARACTERS)]}])
    one_less = Escape(loaded("bytes"), [{"role": "user", "content": "<|im_end|>" + "".join(NONCHARACTERS[1:])}])
    assert NONCHARACTERS[0] in one_less.messages[0]["content"]


def test_nano_is_loaded_whole():
    one = load_tokenizer(ROOT / "models" / "nano")
    assert one.eos_ids == {503, 505}
    assert (one.token_text(505), one.token_bytes(505), one.token_text(10**6), one.token_bytes(-1)) == (
        "<|im_end|>",
        b"<|im_end|>",
        "",
        b"",
    )
    assert one.special_ids == {503, 504, 505}
    assert {503, 505, 511} <= one.atomic_ids
    assert one.vocab_size == 512
    assert one.in_vocabulary([0, 511])
    assert not one.in_vocabulary([512])
    assert len(one.template_digest) == 16


def test_a_folder_without_a_tokenizer_says_so(tmp_path: Path):
    with pytest.raises(PreflightError) as missing:
        load_tokenizer(tmp_path)
    assert missing.value.code == "tokenizer_missing"
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(PreflightError) as broken:
        load_tokenizer(tmp_path)
    assert broken.value.code == "tokenizer_unreadable"
    (tmp_path / "tokenizer.json").write_bytes(SPECS["bytes"])
    (tmp_path / "tokenizer_config.json").write_text("{")
    with pytest.raises(PreflightError) as damaged:
        load_tokenizer(tmp_path)
    assert damaged.value.code == "tokenizer_unreadable"


@pytest.mark.parametrize(
    ("files", "template"),
    [
        ({}, None),
        ({"tokenizer_config.json": {"chat_template": "inside"}}, "inside"),
        ({"tokenizer_config.json": {"chat_template": "inside"}, "chat_template.jinja": "file"}, "file"),
        ({"chat_template.json": {"chat_template": "legacy"}}, "legacy"),
        (
            {"tokenizer_config.json": {"chat_template": [{"name": "default", "template": "named"}, {"name": "rag"}]}},
            "named",
        ),
    ],
)
def test_where_a_template_may_be(tmp_path: Path, files, template):
    (tmp_path / "tokenizer.json").write_bytes(SPECS["bytes"])
    for name, content in files.items():
        (tmp_path / name).write_text(content if isinstance(content, str) else json.dumps(content))
    assert load_tokenizer(tmp_path).template == template
