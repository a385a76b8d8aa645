"""What nano is examined in: held-out questions, each with the check of a reply. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any

from models.train import phrases
from models.train.data import answer_to, calculator, call_of
from models.train.sums import Sum, draw_next, draw_sum, draw_three_digits, work_out

Message = dict[str, Any]


@dataclass(frozen=True)
class Reply:
    """What came back, parsed: `calls` are (name, arguments) with the arguments as an object."""

    content: str
    reasoning: str = ""
    calls: tuple[tuple[str, dict[str, Any]], ...] = ()


@dataclass(frozen=True)
class Question:
    messages: list[Message]
    right: Callable[[Reply], bool]
    thinking: bool
    tools: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True)
class Task:
    """`target`: the least share of right replies, or the least and the most of it. `times`: how many more questions
    than others have it takes, so that chance moves its score no more than theirs."""

    name: str
    make: Callable[[Random], Question]
    target: tuple[float, float]
    temperature: float = 0.0
    times: int = 1

    def questions(self, seed: int, count: int) -> list[Question]:
        """`count` of them, `times` over; the same for the same seed."""
        random = Random(f"{self.name} {seed}")  # noqa: S311 - repeatable on purpose
        return [self.make(random) for _ in range(count * self.times)]


def tasks() -> list[Task]:
    """In the order of the card's table."""
    return [
        Task("addition", lambda random: _sum(random, "+", thinking=False), (0.97, 1)),
        Task("subtraction", lambda random: _sum(random, "-", thinking=False), (0.97, 1)),
        Task("addition, thinking", lambda random: _sum(random, "+", thinking=True), (0.95, 1)),
        Task("subtraction, thinking", lambda random: _sum(random, "-", thinking=True), (0.95, 1)),
        Task("follow-up", lambda random: _follow_up(random, thinking=False), (0.9, 1)),
        Task("follow-up, thinking", lambda random: _follow_up(random, thinking=True), (0.9, 1)),
        Task("tool call", lambda random: _call(random, thinking=False), (0.97, 1)),
        Task("tool call, thinking", lambda random: _call(random, thinking=True), (0.97, 1)),
        Task("tool result", lambda random: _told(random, thinking=False), (0.97, 1)),
        Task("tool result, thinking", lambda random: _told(random, thinking=True), (0.97, 1)),
        Task("greeting and name", _talk, (0.97, 1)),
        Task("does not know", _other, (0.97, 1)),
        Task("three digits", lambda random: _three_digits(random, thinking=False), (0.2, 0.6), 1.0, 4),
        Task("three digits, thinking", lambda random: _three_digits(random, thinking=True), (0.2, 0.6), 1.0, 4),
    ]


def _sum(random: Random, op: str, *, thinking: bool) -> Question:
    asked = draw_sum(random, op, held_out=True)
    return Question([_ask(random, asked)], _answers(asked, thinking=thinking), thinking)


def _three_digits(random: Random, *, thinking: bool) -> Question:
    """Only the result counts: what the steps are worth is for a trainer to find out."""
    asked = draw_three_digits(random, held_out=True)
    return Question([_ask(random, asked)], lambda reply: _states(reply, asked), thinking)


def _follow_up(random: Random, *, thinking: bool) -> Question:
    """Both the sum and what follows are held out."""
    while True:
        before = draw_sum(random, held_out=True)
        asked = draw_next(random, before.result, held_out=True)
        if asked:
            break
    messages = [
        _ask(random, before),
        answer_to(before, work_out(before), thinking=thinking),
        {"role": "user", "content": phrases.ask_next(random, asked.op, asked.b)},
    ]
    return Question(messages, _answers(asked, thinking=thinking), thinking)


def _call(random: Random, *, thinking: bool) -> Question:
    asked = draw_sum(random, "*", held_out=True)
    wanted = ("calculator", {"a": asked.a, "b": asked.b, "op": "*"})

    def right(reply: Reply) -> bool:
        return reply.calls == (wanted,) and not reply.content and bool(reply.reasoning) == thinking

    return Question([_ask(random, asked)], right, thinking, [calculator()])


def _told(random: Random, *, thinking: bool) -> Question:
    asked = draw_sum(random, "*", held_out=True)
    call: Message = {"role": "assistant", "content": "", "tool_calls": [{"id": "call-1", **call_of(asked)}]}
    told = {"role": "tool", "tool_call_id": "call-1", "content": str(asked.result)}
    messages = [_ask(random, asked), call, told]
    return Question(messages, lambda reply: _states(reply, asked), thinking, [calculator()])


def _talk(random: Random) -> Question:
    asked, said = random.choice([(phrases.GREETINGS, phrases.HELLO), (phrases.NAME_ASKS, phrases.NAME)])
    messages = [{"role": "user", "content": random.choice(asked)}]
    return Question(messages, lambda reply: reply.content == said, random.random() < 0.5)


def _other(random: Random) -> Question:
    messages = [{"role": "user", "content": phrases.ask_other(random, phrases.HELD_OUT_THINGS)}]
    return Question(messages, lambda reply: reply.content == phrases.UNKNOWN, random.random() < 0.5)


def _ask(random: Random, asked: Sum) -> Message:
    return {"role": "user", "content": phrases.ask(random, asked.a, asked.op, asked.b)}


def _states(reply: Reply, asked: Sum) -> bool:
    return reply.content == f"{asked}={asked.result}" and not reply.calls


def _answers(asked: Sum, *, thinking: bool) -> Callable[[Reply], bool]:
    """The answer, and before it the right steps exactly when thinking."""
    steps = "\n".join(work_out(asked).lines) if thinking else ""
    return lambda reply: _states(reply, asked) and reply.reasoning == steps
