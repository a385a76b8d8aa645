"""Text completions in a session: what was sampled stays, the rest is encoded without BOS or dummy prefix."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moorage.capture.call import Call, Draft
from moorage.capture.packing import count, pack_ids, unpack_ids
from moorage.engines.rendering.textual import text_plan
from moorage.engines.rendering.tokenizer import Tokenizer
from moorage.errors import UsageError
from tests.unit.engines.rendering.families import CHATML, model
from tests.unit.engines.rendering.talk import Talk, ids_of
from tests.unit.engines.rendering.vocabularies import byte_level

NAMES = ["nano", "mistral-always", "mistral-first", "mistral-legacy", "gemma"]


def complete(name, *rounds):
    """A session of text completions: (prompt's new text, sampled text letter by letter)…; the talk and its text."""
    one = model(name)
    talk, text = Talk(one.renderer), ""
    for asked, said in rounds:
        plan = one.renderer.text_plan(talk.tree, text + asked)
        sampled = [token for letter in said for token in one.tokenizer.encode(letter)]
        node = commit(talk, plan, sampled)
        text = one.tokenizer.decode(unpack_ids(talk.tree.path(node)), skip_special=False)
    return one, talk, text


def commit(talk, plan, sampled):
    seq = len(talk.tree)
    draft = Draft(
        call_id=str(seq),
        request_id=str(seq),
        choice=0,
        session_id="s",
        parent=None if plan.parent is None else plan.parent.seq,
        keep=plan.keep,
        delta=plan.ids[4 * plan.keep :],
        completion=pack_ids(sampled),
        logprobs=None,
        finish_reason="length",
        stop_token=False,
    )
    return talk.tree.add(Call(record=draft, seq=seq, step_index=seq, hash=b""))


@pytest.mark.parametrize("name", NAMES)
def test_text_goes_on_from_the_longest_call(name):
    one, talk, text = complete(name, ("The quick", " brown fox"), (" jumps", " over the dog"))
    plan = one.renderer.text_plan(talk.tree, text + " and then")
    last = talk.tree.node(1)
    path = unpack_ids(talk.tree.path(last))
    assert (plan.verdict, plan.parent, plan.keep, plan.matched) == ("exact", last, len(path), last)
    assert ids_of(plan)[: len(path)] == path
    rest = ids_of(plan)[len(path) :]
    assert one.tokenizer.join_bytes(rest) == b" and then"
    assert one.tokenizer.bos_id not in rest
    again = one.renderer.text_plan(talk.tree, text)
    assert ids_of(again) == path


@pytest.mark.parametrize("name", NAMES)
def test_text_without_a_call_is_encoded_as_the_tokenizer_does(name):
    one = model(name)
    plan = one.renderer.text_plan(Talk(one.renderer).tree, "The quick fox")
    assert ids_of(plan) == one.tokenizer.encode_fresh("The quick fox")
    assert plan.verdict == "root"


@pytest.mark.parametrize("name", ["nano", "mistral-first"])
@pytest.mark.parametrize("cut", [1, 2, 3])
def test_a_character_cut_in_the_middle_stays_the_tokens_it_was(name, cut):
    """The client was given U+FFFD for it and sends that back."""
    one = model(name)
    talk = Talk(one.renderer)
    plan = one.renderer.text_plan(talk.tree, "A fox: ")
    fox = one.tokenizer.encode("🦊")[-4:]
    sampled = fox[:cut]
    node = commit(talk, plan, sampled)
    text = one.tokenizer.decode(unpack_ids(talk.tree.path(node)), skip_special=False)
    assert text.startswith("A fox: �")
    after = one.renderer.text_plan(talk.tree, text + " and more")
    assert (after.verdict, after.parent) == ("exact", node)
    again = commit(talk, after, one.tokenizer.encode("!"))
    text = one.tokenizer.decode(unpack_ids(talk.tree.path(again)), skip_special=False)
    assert one.renderer.text_plan(talk.tree, text).parent is again


def test_the_longest_of_siblings_and_nothing_of_another_text():
    one = model("nano")
    talk = Talk(one.renderer)
    plan = one.renderer.text_plan(talk.tree, "Count: ")
    for said in ("1", "10", "2"):
        commit(talk, plan, one.tokenizer.encode(said))
    assert one.renderer.text_plan(talk.tree, "Count: 10 and").parent is talk.tree.node(1)
    assert one.renderer.text_plan(talk.tree, "Count: 1 and").parent is talk.tree.node(0)
    other = one.renderer.text_plan(talk.tree, "Count: 3")
    assert (other.matched, ids_of(other)) == (None, one.tokenizer.encode_fresh("Count: 3"))


def test_special_tokens_are_part_of_a_calls_text():
    one = model("nano")
    talk = Talk(one.renderer)
    user = {"role": "user", "content": "Go."}
    plan = talk.plan([user])
    node = talk.commit([user], plan, one.tokenizer.encode("Gone.<|im_end|>"), {"role": "assistant", "content": "Gone."})
    text = one.tokenizer.decode(unpack_ids(talk.tree.path(node)), skip_special=False)
    assert text.endswith("Gone.<|im_end|>")
    assert one.renderer.text_plan(talk.tree, text + "\n").parent is node


def test_an_end_token_that_the_client_was_not_shown_is_left_out_and_the_rest_stays():
    one = model("nano")
    talk = Talk(one.renderer)
    letters = [token for letter in " fox" for token in one.tokenizer.encode(letter)]
    node = commit(talk, one.renderer.text_plan(talk.tree, "The"), letters + one.tokenizer.encode("<|im_end|>"))
    after = one.renderer.text_plan(talk.tree, "The fox jumps")
    path = unpack_ids(talk.tree.path(node))
    assert ids_of(after)[: len(path) - 1] == path[:-1]
    assert (after.verdict, after.reason, after.parent, after.keep) == ("branch", "edited", node, len(path) - 1)
    again = commit(talk, after, one.tokenizer.encode(" over"))
    assert one.renderer.text_plan(talk.tree, "The fox jumps over the").parent is again


def test_letters_that_the_tokenizer_composes_are_the_same_text():
    """The client sends its own form back, the call's text is the composed one."""
    spec = json.loads(byte_level(CHATML))
    spec["normalizer"] = {"type": "NFC"}
    tokenizer = Tokenizer.from_json(json.dumps(spec).encode(), {}, None)
    talk = Talk(None)
    node = commit(talk, text_plan(tokenizer, talk.tree, "nai\u0308ve"), tokenizer.encode(" fox"))
    after = text_plan(tokenizer, talk.tree, "nai\u0308ve fox jumps")
    assert (after.verdict, after.parent) == ("exact", node)


def test_ids_are_taken_as_they_are():
    one = model("nano")
    talk = Talk(one.renderer)
    first = one.renderer.text_plan(talk.tree, [1, 2, 3])
    assert (first.verdict, ids_of(first)) == ("root", [1, 2, 3])
    node = commit(talk, first, [4, 5])
    after = one.renderer.text_plan(talk.tree, [1, 2, 3, 4, 5, 6])
    assert (after.verdict, after.parent, after.keep) == ("exact", node, 5)
    cut = one.renderer.text_plan(talk.tree, [1, 2, 3, 4, 5, 6], prompt_limit=2)
    assert ids_of(cut) == [5, 6]
    for wrong in ([1, 999_999], [-1], [1, "a"], [2**40], [True, 1.5]):
        with pytest.raises(UsageError) as caught:
            one.renderer.text_plan(talk.tree, wrong)
        assert caught.value.code == "prompt_not_tokens"
    for empty in ("", []):
        with pytest.raises(UsageError):
            one.renderer.text_plan(talk.tree, empty)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.text("abc d你🦊", max_size=6), st.text("abc d你🦊", max_size=6)), min_size=1, max_size=5))
def test_every_session_of_completions_is_one_chain(rounds):
    one, talk, text = complete("nano", *[(asked or "x", said) for asked, said in rounds])
    plan = one.renderer.text_plan(talk.tree, text + "x")
    assert plan.verdict == "exact"
    assert plan.keep == max(node.path_tokens for node in talk.tree.nodes())
    assert count(plan.ids) == plan.keep + 1
