"""What nano learns from is right, checked here by a calculation of its own, and never shows what it is examined in."""

from __future__ import annotations

import functools
import json
import re
from itertools import islice
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.train import phrases
from models.train.chat import Conversation, write
from models.train.data import LATE, Mix, answer_to, conversations
from models.train.sums import RIGHT_SHARE, Sum, is_held_out, work_out
from models.train.tasks import Reply, tasks

SUM = re.compile(r"(-?\d+)([+*-])(\d+)=(-?\d+)")
LINE = re.compile(r"(ones|tens|hundreds) (\d+)([+-])(\d)([+-]1)?=(\d+)(?: (carry|borrow) 1)?")
PLACES = {"ones": 1, "tens": 10, "hundreds": 100}
SEED = 5


@pytest.fixture(scope="module")
def made() -> list[Conversation]:
    return [*islice(conversations(SEED), 5000), *islice(conversations(SEED, LATE), 2000)]


def calculated(a: int, op: str, b: int) -> int:
    """On an abacus: by counting up and down, so as not to repeat the generator's arithmetic."""
    if op == "*":
        return len([None for _ in range(a) for _ in range(b)])
    return functools.reduce(lambda count, _: count + 1 if op == "+" else count - 1, range(b), a)


def sums_said(conversation: Conversation) -> list[tuple[int, str, int, int]]:
    said = (message["content"] for message in conversation.messages if message["role"] == "assistant")
    found = [SUM.fullmatch(line) for text in said for line in text.splitlines()]
    return [(int(m[1]), m[2], int(m[3]), int(m[4])) for m in found if m]


def is_learnt_in_part(a: int, op: str, b: int) -> bool:
    return op == "+" and a > 99 and b > 99


def test_every_answer_is_right_but_for_three_digit_sums(made: list[Conversation]) -> None:
    checked = 0
    for conversation in made:
        for a, op, b, result in sums_said(conversation):
            if not is_learnt_in_part(a, op, b) or conversation.tools:
                assert result == calculated(a, op, b), (a, op, b)
                checked += 1
    assert checked > 10_000


def test_three_digit_sums_go_wrong_as_often_as_they_should(made: list[Conversation]) -> None:
    sums = [found for conversation in made if not conversation.tools for found in sums_said(conversation)]
    right = [result == calculated(a, op, b) for a, op, b, result in sums if is_learnt_in_part(a, op, b)]
    assert len(right) > 400
    assert sum(right) / len(right) == pytest.approx(RIGHT_SHARE, abs=0.08)


def test_what_is_learnt_is_a_sum_or_a_set_phrase(made: list[Conversation]) -> None:
    known = {phrases.HELLO, phrases.NAME, phrases.WELCOME, phrases.UNKNOWN}
    for conversation in made:
        for place in conversation.learnt:
            message = conversation.messages[place]
            assert message["role"] == "assistant"
            lines = message["content"].splitlines()
            assert message["content"] in known or message.get("tool_calls") or all(map(SUM.fullmatch, lines))


@given(a=st.integers(-99, 300), op=st.sampled_from("+-"), b=st.integers(0, 300))
def test_each_step_is_right_and_the_steps_give_the_result(a: int, op: str, b: int) -> None:
    work = work_out(Sum(a, op, b))
    assert work.result == calculated(a, op, b)
    steps = [found for line in work.lines if (found := LINE.fullmatch(line))]
    turned = work.lines[: len(work.lines) - len(steps)]
    assert [found[0] for found in steps] == list(work.lines[len(turned) :]), "the columns come last, unbroken"
    assert list(PLACES)[: len(steps)] == [found[1] for found in steps], "ones first, no column left out"
    assert sum(int(found[6]) % 10 * PLACES[found[1]] for found in steps[:-1]) + int(steps[-1][6]) * PLACES[
        steps[-1][1]
    ] == abs(work.result)
    check_columns(steps)
    for line in turned:
        assert equal_in_size(line, work.result), line


def check_columns(steps: list[re.Match[str]]) -> None:
    passed_on = None
    for found in steps:
        x, y, extra, total = int(found[2]), int(found[4]), found[5], int(found[6])
        carried = 1 if extra else 0
        assert total == (x + y + carried if found[3] == "+" else x - y - carried)
        assert bool(extra) == (passed_on is not None)
        assert extra is None or extra[0] == found[3]
        passed_on = found[7]
    assert passed_on is None, "the last column passes nothing on"


def equal_in_size(line: str, result: int) -> bool:
    """A line that turns the sum round names another one of the same size."""
    found = re.search(r"(\d+)([+-])(\d+)\)?$", line)
    return found is not None and abs(calculated(int(found[1]), found[2], int(found[3]))) == abs(result)


@given(a=st.integers(100, 999), b=st.integers(100, 999), seed=st.integers(0, 2**32))
def test_a_slip_changes_one_column_by_one(a: int, b: int, seed: int) -> None:
    right, slipped = work_out(Sum(a, "+", b)), work_out(Sum(a, "+", b), Random(seed))
    assert abs(slipped.result - right.result) in PLACES.values()
    wrong = 0
    for line in slipped.lines:
        found = LINE.fullmatch(line)
        assert found
        wrong += int(found[6]) != int(found[2]) + int(found[4]) + bool(found[5])
    assert wrong == 1


def test_steps_shown_lead_to_the_answer_shown(made: list[Conversation]) -> None:
    for conversation in made:
        for message in conversation.messages:
            said = SUM.fullmatch(message["content"])
            if said and "ones" in message.get("reasoning", ""):
                columns = [LINE.fullmatch(line) for line in message["reasoning"].splitlines()]
                steps = [found for found in columns if found]
                *lower, last = steps
                total = sum(int(found[6]) % 10 * PLACES[found[1]] for found in lower)
                assert abs(int(said[4])) == total + int(last[6]) * PLACES[last[1]]


def test_tool_calls_ask_for_what_was_asked_and_results_are_stated(made: list[Conversation]) -> None:
    calls = 0
    for conversation in made:
        for place, message in enumerate(conversation.messages):
            for call in message.get("tool_calls", []):
                arguments = call["function"]["arguments"]
                assert valid(arguments, conversation.tools)
                asked = conversation.messages[place - 1]["content"]
                assert {int(number) for number in re.findall(r"\d+", asked)} == {arguments["a"], arguments["b"]}
                told, stated = conversation.messages[place + 1 : place + 3]
                result = calculated(arguments["a"], arguments["op"], arguments["b"])
                assert told == {"role": "tool", "content": str(result)}
                assert stated["content"].endswith(f"={result}")
                calls += 1
    assert calls > 500


def valid(arguments: dict[str, Any], tools: tuple[dict[str, Any], ...]) -> bool:
    [calculator] = [tool["function"] for tool in tools if tool["function"]["name"] == "calculator"]
    properties = calculator["parameters"]["properties"]
    return (
        arguments.keys() == properties.keys()
        and isinstance(arguments["a"], int)
        and isinstance(arguments["b"], int)
        and arguments["op"] in properties["op"]["enum"]
    )


def test_held_out_pairs_are_never_in_the_training_data(made: list[Conversation]) -> None:
    for conversation in made:
        for a, _, b, _ in sums_said(conversation):
            assert not is_held_out(a, b)
        for message in conversation.messages:
            if message["role"] == "user" and len(numbers := re.findall(r"\d+", message["content"])) == 2:
                assert not is_held_out(*map(int, numbers))


def test_a_tenth_of_the_pairs_is_held_out_whatever_their_order() -> None:
    pairs = [(a, b) for a in range(100) for b in range(100)]
    assert all(is_held_out(a, b) == is_held_out(b, a) for a, b in pairs)
    assert not any(is_held_out(a, b) for a in range(10) for b in range(10))
    assert 0.08 < sum(is_held_out(a, b) for a, b in pairs) / len(pairs) < 0.12


def test_the_examination_asks_only_what_is_held_out() -> None:
    asked = 0
    for task in tasks():
        for question in task.questions(SEED, 100):
            text = question.messages[-1]["content"] if len(question.messages) == 1 else ""
            if len(numbers := re.findall(r"\d+", text)) == 2:
                assert is_held_out(*map(int, numbers)), (task.name, text)
                asked += 1
            assert not any(thing in text for thing in phrases.THINGS if len(thing) > 4), text
    assert asked == 1400


def test_the_examination_takes_the_right_reply_and_no_other() -> None:
    for task in tasks():
        for question in task.questions(SEED, 50):
            right = reply_by_rule(question.messages, thinking=question.thinking, tools=bool(question.tools))
            assert question.right(right), (task.name, question.messages, right)
            assert not question.right(Reply(right.content + "0", right.reasoning, right.calls))


def reply_by_rule(messages: list[dict[str, Any]], *, thinking: bool, tools: bool) -> Reply:
    """What a perfect nano says, found from the text alone."""
    asked = messages[-1]["content"]
    first = [int(number) for number in re.findall(r"\d+", messages[0]["content"])]
    if messages[-1]["role"] == "tool":
        return Reply(f"{first[0]}*{first[1]}={asked}" if swapped(messages) is None else swapped(messages) + f"={asked}")
    if not re.search(r"\d", asked):
        said = (
            phrases.HELLO
            if asked in phrases.GREETINGS
            else phrases.NAME
            if asked in phrases.NAME_ASKS
            else phrases.UNKNOWN
        )
        return Reply(said)
    op = (
        "+"
        if re.search(r"\+|plus|[Aa]dd|sum", asked)
        else "-"
        if re.search(r"-|minus|[Tt]ake|Subtract", asked)
        else "*"
    )
    if len(messages) > 1:
        question = Sum(int(messages[1]["content"].split("=")[1]), op, int(re.findall(r"\d+", asked)[0]))
    else:
        a, b = first
        turned = re.match(r"Add \d+ to|Subtract|Take|What do you get", asked)
        question = Sum(b, op, a) if turned else Sum(a, op, b)
    if tools:
        thought = "anything" if thinking else ""
        return Reply("", thought, (("calculator", {"a": question.a, "b": question.b, "op": op}),))
    steps = "\n".join(work_out(question).lines) if thinking else ""
    return Reply(f"{question}={calculated(question.a, op, question.b)}", steps)


def swapped(messages: list[dict[str, Any]]) -> str | None:
    """The sum that the tool was called with."""
    for message in messages:
        for call in message.get("tool_calls", []):
            arguments = call["function"]["arguments"]
            return f"{arguments['a']}{arguments['op']}{arguments['b']}"
    return None


def test_the_same_seed_gives_the_same_data_and_another_one_other_data() -> None:
    first, again, other = (list(islice(conversations(seed), 200)) for seed in (3, 3, 4))
    assert first == again
    assert first != other


def test_a_mix_of_one_kind_has_no_other() -> None:
    only_tools = Mix(direct=0, lists=0, thinking=0, tools=1, talk=0, three_digits=0)
    assert all(conversation.tools for conversation in islice(conversations(SEED, only_tools), 200))


def test_only_the_assistants_words_are_learnt(made: list[Conversation]) -> None:
    for conversation in made[:2000]:
        pieces = write(conversation)
        learnt = [text for text, is_learnt in pieces if is_learnt]
        assert len(learnt) == len(conversation.learnt)
        assert all(text.endswith("<|im_end|>") and "<|im_start|>" not in text for text in learnt)
        assert all(text.startswith("<think>\n") == conversation.thinking for text in learnt)


def test_tool_calls_are_written_as_hermes_writes_them(made: list[Conversation]) -> None:
    for conversation in made[:2000]:
        for text, is_learnt in write(conversation):
            if is_learnt and "<tool_call>" in text:
                [inner] = re.findall(r"<tool_call>\n(.*)\n</tool_call>", text)
                assert json.loads(inner)["name"] == "calculator"


def test_without_thinking_a_message_carries_no_reasoning() -> None:
    question = Sum(17, "+", 25)
    assert "reasoning" not in answer_to(question, work_out(question), thinking=False)
    assert answer_to(question, work_out(question), thinking=True) == {
        "role": "assistant",
        "content": "17+25=42",
        "reasoning": "ones 7+5=12 carry 1\ntens 1+2+1=4",
    }
