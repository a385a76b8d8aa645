"""The conversations that nano learns from: right by construction (but for the slips that `sums` explains), made from
a number alone, endless. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from random import Random
from typing import Any, NamedTuple

from models.train import phrases
from models.train.chat import Conversation
from models.train.sums import RIGHT_SHARE, Sum, Work, draw_next, draw_sum, draw_three_digits, work_out

Message = dict[str, Any]

DESCRIPTIONS = (
    "Calculate with two integers.",
    "A calculator.",
    "Compute a op b.",
    "Do arithmetic on two integers.",
    "Adds, subtracts or multiplies two numbers.",
    "",
)
OTHER_TOOLS = ("get_weather", "search", "send_mail", "get_time")
CALL_THOUGHT = "I call the calculator."
TOLD_THOUGHT = "The calculator says {result}."
CHAT_THOUGHT = "No sum."


class Mix(NamedTuple):
    """How often each kind of conversation is drawn, relative to the others."""

    direct: float = 34
    lists: float = 24
    thinking: float = 18
    tools: float = 10
    talk: float = 6
    three_digits: float = 8
    going_on: float = 0


LATE = Mix(direct=20, lists=14, thinking=16, tools=8, talk=5, three_digits=7, going_on=30)
"""For the last part of the training, when sums are known and what follows on them is not yet."""


def conversations(seed: int, mix: Mix | None = None, right: float = RIGHT_SHARE) -> Iterator[Conversation]:
    """The same ones, in the same order, for the same seed. `right`: the share of three-digit sums without a slip."""
    random = Random(seed)  # noqa: S311 - repeatable on purpose
    weights = mix or Mix()
    makers: list[Callable[[Random], Conversation]] = [_direct, _lists, _thinking, _with_tools, _talk]
    makers += [lambda drawn: _three_digits(drawn, right), _going_on]
    while True:
        yield random.choices(makers, weights)[0](random)


def calculator(description: str = DESCRIPTIONS[0], *, described: bool = False, required: bool = True) -> dict[str, Any]:
    """The tool's definition as a client sends it. `described`: with a description of each argument too."""
    number = {"type": "integer"}
    properties: dict[str, Any] = {
        "a": {**number, "description": "first number"} if described else number,
        "b": {**number, "description": "second number"} if described else number,
        "op": {"type": "string", "enum": ["+", "-", "*"]},
    }
    parameters = {"type": "object", "properties": properties} | ({"required": ["a", "b", "op"]} if required else {})
    function = {"name": "calculator", "description": description, "parameters": parameters}
    return {"type": "function", "function": function}


def call_of(question: Sum) -> dict[str, Any]:
    """The tool call that a question asks for, arguments as an object."""
    arguments = {"a": question.a, "b": question.b, "op": question.op}
    return {"type": "function", "function": {"name": "calculator", "arguments": arguments}}


def answer_to(question: Sum, work: Work, *, thinking: bool) -> Message:
    message: Message = {"role": "assistant", "content": f"{question}={work.result}"}
    return message | ({"reasoning": "\n".join(work.lines)} if thinking else {})


def _direct(random: Random) -> Conversation:
    return _sums(random, random.choice((1, 1, 2, 3, 4)), thinking=False)


def _lists(random: Random) -> Conversation:
    """Several sums in one message: more sums for the same number of tokens."""
    questions = [draw_sum(random) for _ in range(random.randint(5, 10))]
    between = random.choice((", ", "\n", "; "))
    messages = _opening(random)
    messages.append({"role": "user", "content": between.join(map(str, questions))})
    said = "\n".join(f"{question}={question.result}" for question in questions)
    messages.append({"role": "assistant", "content": said})
    return _all_learnt(messages, thinking=False)


def _thinking(random: Random) -> Conversation:
    """Half of the longer ones come back without the earlier reasoning, as clients that drop it send them."""
    whole = _sums(random, random.choice((1, 1, 1, 2, 3)), thinking=True)
    return whole if random.random() < 0.5 else _forget(whole)


def _going_on(random: Random) -> Conversation:
    """A sum and what follows on it."""
    thinking = random.random() < 0.55
    whole = _sums(random, random.choice((2, 2, 3)), thinking=thinking, following=1.0)
    return _forget(whole) if thinking and random.random() < 0.3 else whole


def _sums(random: Random, turns: int, *, thinking: bool, following: float = 0.6) -> Conversation:
    """`following`: the share of the later questions that go on from the last result."""
    messages = _opening(random)
    so_far: int | None = None
    for _ in range(turns):
        going_on = draw_next(random, so_far) if so_far is not None and random.random() < following else None
        question = going_on or draw_sum(random)
        say = phrases.ask_next if going_on else phrases.ask
        arguments = (question.op, question.b) if going_on else (question.a, question.op, question.b)
        messages.append({"role": "user", "content": say(random, *arguments)})
        messages.append(answer_to(question, work_out(question), thinking=thinking))
        so_far = question.result if abs(question.result) < 200 else None
        if random.random() < 0.05:
            messages += _small_talk(random, thinking=thinking)
            so_far = None
    return _all_learnt(messages, thinking=thinking)


def _three_digits(random: Random, right: float) -> Conversation:
    thinking = random.random() < 0.3
    messages = _opening(random)
    for _ in range(1 if thinking else random.randint(1, 3)):
        question = draw_three_digits(random)
        work = work_out(question, None if random.random() < right else random)
        messages.append({"role": "user", "content": phrases.ask(random, question.a, question.op, question.b)})
        messages.append(answer_to(question, work, thinking=thinking))
    return _all_learnt(messages, thinking=thinking)


def _with_tools(random: Random) -> Conversation:
    """With the calculator at hand it is used for every sum, difference and product."""
    thinking = random.random() < 0.5
    messages = _opening(random)
    for _ in range(random.randint(1, 3)):
        if random.random() < 0.1:
            messages += _small_talk(random, thinking=thinking)
            continue
        question = draw_sum(random, random.choice(("*", "*", "+-*")), largest=99 if random.random() < 0.8 else 999)
        messages.append({"role": "user", "content": phrases.ask(random, question.a, question.op, question.b)})
        messages += _use_tool(question, thinking=thinking)
    return _all_learnt(messages, thinking=thinking, tools=_tools(random))


def _use_tool(question: Sum, *, thinking: bool) -> list[Message]:
    call: Message = {"role": "assistant", "content": "", "tool_calls": [call_of(question)]}
    told: Message = {"role": "assistant", "content": f"{question}={question.result}"}
    if thinking:
        call["reasoning"], told["reasoning"] = CALL_THOUGHT, TOLD_THOUGHT.format(result=question.result)
    return [call, {"role": "tool", "content": str(question.result)}, told]


def _tools(random: Random) -> tuple[dict[str, Any], ...]:
    own = calculator(random.choice(DESCRIPTIONS), described=random.random() < 0.3, required=random.random() < 0.7)
    if random.random() < 0.85:
        return (own,)
    parameters = {"type": "object", "properties": {"text": {"type": "string"}}}
    name = random.choice(OTHER_TOOLS)
    other = {"type": "function", "function": {"name": name, "description": "", "parameters": parameters}}
    return (own, other) if random.random() < 0.5 else (other, own)


def _talk(random: Random) -> Conversation:
    thinking = random.random() < 0.5
    messages = _opening(random)
    for _ in range(random.randint(1, 3)):
        messages += _small_talk(random, thinking=thinking)
    if random.random() < 0.3:
        question = draw_sum(random, "*")
        messages.append({"role": "user", "content": phrases.ask(random, question.a, question.op, question.b)})
        messages.append(_plain(phrases.UNKNOWN, thinking=thinking))
    return _all_learnt(messages, thinking=thinking)


def _small_talk(random: Random, *, thinking: bool) -> list[Message]:
    kind = random.choices(("greeting", "name", "thanks", "other"), (2, 2, 1, 5))[0]
    asked, said = {
        "greeting": (random.choice(phrases.GREETINGS), phrases.HELLO),
        "name": (random.choice(phrases.NAME_ASKS), phrases.NAME),
        "thanks": (random.choice(phrases.THANKS), phrases.WELCOME),
        "other": (phrases.ask_other(random), phrases.UNKNOWN),
    }[kind]
    return [{"role": "user", "content": asked}, _plain(said, thinking=thinking)]


def _plain(said: str, *, thinking: bool) -> Message:
    return {"role": "assistant", "content": said} | ({"reasoning": CHAT_THOUGHT} if thinking else {})


def _opening(random: Random) -> list[Message]:
    if random.random() < 0.8:
        return []
    return [{"role": "system", "content": random.choice(phrases.SYSTEMS)}]


def _all_learnt(messages: list[Message], *, thinking: bool, tools: tuple[dict[str, Any], ...] = ()) -> Conversation:
    learnt = frozenset(place for place, message in enumerate(messages) if message["role"] == "assistant")
    return Conversation(tuple(messages), thinking, tools, learnt)


def _forget(conversation: Conversation) -> Conversation:
    """Without the reasoning of all but the last turn, which alone is learnt."""
    last = len(conversation.messages) - 1
    messages = tuple(
        message if place == last else {key: value for key, value in message.items() if key != "reasoning"}
        for place, message in enumerate(conversation.messages)
    )
    return Conversation(messages, conversation.thinking, conversation.tools, frozenset({last}))
