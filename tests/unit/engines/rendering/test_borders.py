# ruff: noqa: RUF001 - DeepSeek writes its tokens with a wide bar
"""Cuts of a text: both sides encode as they do together, whatever is said on them and whatever tokens there are."""

from __future__ import annotations

import functools
import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, normalizers

from moorage.engines.rendering import tokenizer as ours
from tests.unit.engines.rendering.families import FAMILIES, model
from tests.unit.engines.rendering.vocabularies import byte_level, sentence_piece

PIECES = ["<a>", "<b>", "<a", "a>", "<", ">", "a", "b", "x", " ", "\n", "é", "e\u0301", "<a>x", "x<a>", "\n\n", "A"]
said = st.lists(st.sampled_from(PIECES), max_size=6).map("".join)
CLEAN = {"lstrip": False, "rstrip": False, "single_word": False, "normalized": False}
flags = st.sampled_from([CLEAN, CLEAN, *({**CLEAN, name: True} for name in CLEAN)])
others = st.sampled_from(["<b>", "<a>x", "x<a>", "b<a>a", "a<", ">a", "\n\n", "<a><b>", "x", "\n"])
tokens = st.lists(st.tuples(others, flags), max_size=3, unique_by=lambda token: token[0]).map(
    lambda several: [("<a>", CLEAN), *several]
)
NORMALIZERS = [None, normalizers.NFC(), normalizers.Lowercase(), normalizers.Strip(), normalizers.Replace("x", "<a>")]


@functools.cache
def _spec() -> str:
    return byte_level([]).decode()


def made(several, normalizer=None) -> ours.Tokenizer:
    built = Tokenizer.from_str(_spec())
    if normalizer is not None:
        built.normalizer = normalizer
    built.add_tokens([AddedToken(text, special=False, **kinds) for text, kinds in several])
    return ours.Tokenizer.from_json(built.to_str().encode(), {}, None)


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(tokens, st.sampled_from(NORMALIZERS), said, st.sampled_from(["<a>", "<b>", "<a>b<b>"]), said, said, said)
def test_a_span_and_what_is_around_it_encode_apart(several, normalizer, before, core, after, left, right):
    one = made(several, normalizer)
    literal = left + core + right
    span = _span(one, literal, begins=False, ends=False)
    if span is None:
        return
    first, last = span
    _same(one, before + literal[:first], literal[first:last], literal[last:] + after)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(tokens, st.sampled_from(NORMALIZERS), said, said, st.booleans())
def test_at_the_ends_of_a_text_one_side_is_enough(several, normalizer, literal, other, begins):
    one = made(several, normalizer)
    span = _span(one, literal, begins=begins, ends=not begins)
    if span is None:
        return
    first, last = span
    texts = (literal[first:last], literal[last:] + other) if begins else (other + literal[:first], literal[first:last])
    _same(one, *texts)


def _span(one, text, **sides):
    try:
        return one.fixed_span(text, **sides)
    except BaseException as fault:
        if type(fault).__name__ == "PanicException":
            return None
        raise


def _same(one, *texts) -> None:
    try:
        whole = one.encode("".join(texts))
        apart = [token for text in texts for token in one.encode(text)]
    except BaseException as fault:
        if type(fault).__name__ == "PanicException":  # the library gives up where tokens fight for white space
            return
        raise
    assert apart == whole


@pytest.mark.parametrize(
    ("several", "literal", "span"),
    [
        ([("<a>", CLEAN)], "x<a>b", (1, 4)),
        ([("<a>", CLEAN), ("<b>", CLEAN)], " <a> <b> ", (1, 8)),
        ([("<a>", CLEAN), ("<a>x", CLEAN)], "b<a>", None),  # what follows may make another token of it
        ([("<a>", CLEAN), ("x<a>", CLEAN)], "<a>b", None),  # and so may what stands before
        ([("<a>", CLEAN), ("b<a>a", CLEAN)], "<a>", None),
        ([("<a>", {**CLEAN, "rstrip": True})], "x<a>b", None),
        ([("<a>", {**CLEAN, "lstrip": True})], "x<a>b", None),
        ([("<a>", {**CLEAN, "normalized": True})], "x<a>b", None),
        ([("<a>", CLEAN), ("x", {**CLEAN, "single_word": True})], "b<a>b", None),  # x is one at an end, and not in <a>x
        ([("<a>", CLEAN)], "xb", None),
    ],
)
def test_where_a_cut_is_proven(several, literal, span):
    assert made(several).fixed_span(literal, begins=False, ends=False) == span


@pytest.mark.parametrize("scheme", ["always", "first", "legacy"])
def test_a_tokenizer_with_a_dummy_prefix_has_none(scheme):
    one = ours.Tokenizer.from_json(sentence_piece(["<s>"], scheme=scheme), {}, None)
    assert one.fixed_span("a<s>b", begins=False, ends=False) is None


@pytest.mark.parametrize("family", [one for one in FAMILIES if "mistral" not in one.name], ids=str)
def test_families_without_one_have_cuts_at_their_tokens(family):
    one = model(family.name)
    text = family.tail([{"role": "user", "content": "Hello there"}])
    first, last = one.tokenizer.fixed_span(text, begins=True, ends=False)
    assert (first, text[:last].endswith((">", "｜"))) == (0, True)
    assert json.dumps(one.tokenizer.encode(text)).startswith(json.dumps(one.tokenizer.encode(text[:last]))[:-1])
