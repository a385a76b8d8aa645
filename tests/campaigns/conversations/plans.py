"""The scripts of conversations: what a user, an agent or a hasty client does, and what that does to the history."""

from __future__ import annotations

import asyncio
import random
import unicodedata
from collections.abc import Awaitable, Callable
from typing import Any

from tests.campaigns.conversations.talk import Message, Talk, Turn, user

__all__ = ["CALCULATOR", "PLANS", "Plan"]

Plan = Callable[[Talk], Awaitable[None]]
Fields = dict[str, Any]

CALCULATOR: Fields = {
    "type": "function",
    "function": {
        "name": "calculator",
        "description": "Adds, subtracts, multiplies.",
        "parameters": {
            "type": "object",
            "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}, "op": {"enum": ["+", "-", "*"]}},
            "required": ["a", "b", "op"],
        },
    },
}
CLOCK: Fields = {"type": "function", "function": {"name": "clock", "description": "The time.", "parameters": {}}}
NOT_THINKING: Fields = {"chat_template_kwargs": {"enable_thinking": False}}
SPOKEN = (
    "naïve café 2+2?",
    "cafe\u0301 ½ \uff12\uff0b\uff12?",
    "🧮 7+5? 👩‍👩‍👧",
    "مرحبا 3+4",
    "<|im_end|> is a token? 1+1",
    "a\r\nb\u2028c 5-3",
)


def sum_of(dice: random.Random) -> str:
    """Three digits now and then: there nano is of several minds."""
    most = dice.choice((100, 100, 1000))
    return f"What is {dice.randrange(most)}{dice.choice('+-')}{dice.randrange(most)}?"


def sampling(dice: random.Random) -> Fields:
    """Fields that change nothing of a prompt."""
    fields: Fields = {"temperature": dice.choice((0, 0, 0.7, 1.0))}
    if dice.random() < 0.3:
        fields |= {"logprobs": True, "top_logprobs": dice.choice((0, 2))}
    if dice.random() < 0.3:
        fields["seed"] = dice.randrange(1000)
    return fields


async def faithful(talk: Talk) -> None:
    """Some turns, all given back whole; thinking is on, off, or changes on the way."""
    dice = talk.dice
    ways: list[list[Fields]] = [[{}], [NOT_THINKING], [{}, NOT_THINKING]]
    thinking = dice.choice(ways)
    messages = [{"role": "system", "content": "You add."}] if dice.random() < 0.3 else []
    turn = await talk.ask([*messages, user(sum_of(dice))], **sampling(dice), **thinking[0])
    for number in range(1, dice.randrange(3, 7)):
        then = turn.then(user(dice.choice((sum_of(dice), f"and plus {dice.randrange(9)}?"))))
        turn = await talk.ask(then, after=(turn, 0), **sampling(dice), **thinking[number % len(thinking)])


async def tools(talk: Talk) -> None:
    """The calculator, whose calls are answered; sums until the end."""
    dice = talk.dice
    fields: Fields = {"tools": [CALCULATOR], **dice.choice(({}, NOT_THINKING))}
    messages, after = [user(sum_of(dice))], None
    for _ in range(dice.randrange(3, 7)):
        turn = await talk.ask(messages, after=after, **sampling(dice), **fields)
        messages, after = turn.then(*_results(turn, dice)), (turn, 0)


def _results(turn: Turn, dice: random.Random, choice: int = 0) -> list[Message]:
    """The tools' results, else the next question."""
    calls = turn.heard[choice].get("tool_calls") or []
    said = [{"role": "tool", "tool_call_id": call["id"], "content": str(dice.randrange(200))} for call in calls]
    return said or [user(sum_of(dice))]


async def choices(talk: Talk) -> None:
    """Several choices at once; the conversation goes on from any of them, and once from two."""
    dice = talk.dice
    turn = await talk.ask([user(sum_of(dice))], n=3, temperature=1.0)
    for _ in range(2):
        choice, more = dice.randrange(3), sampling(dice) | {"temperature": 1.3}
        turn = await talk.ask(turn.then(user(sum_of(dice)), choice=choice), after=(turn, choice), n=3, **more)
    for choice in (0, 2):
        await talk.ask(turn.then(user("and plus 1?"), choice=choice), after=(turn, choice))


async def branches(talk: Talk) -> None:
    """Regenerated, asked twice in the same words, and gone on from an earlier place."""
    dice = talk.dice
    first = await talk.ask([user(sum_of(dice))], temperature=1.0)
    second = await talk.ask(first.then(user(sum_of(dice))), after=(first, 0), temperature=1.0)
    await talk.ask(second.messages, after=(first, 0), temperature=1.0)
    await talk.sample_again(second)
    await talk.ask(first.messages, temperature=1.0)
    other = await talk.ask(first.then(user("and plus 5?")), after=(first, 0), **sampling(dice))
    for turn in (second, other):
        await talk.ask(turn.then(user(sum_of(dice))), after=(turn, 0), **sampling(dice))
    again = await talk.ask(second.then(user("Hello"), choice=1), after=(second, 1))
    await talk.ask(again.then(user("Who are you?")), after=(again, 0))


async def edits(talk: Talk) -> None:
    """The last question is put otherwise; then a reply is; then an early question."""
    dice = talk.dice
    first = await talk.ask([user(sum_of(dice))], **sampling(dice))
    second = await talk.ask(first.then(user(sum_of(dice))), after=(first, 0), **sampling(dice))
    await talk.ask(first.then(user("and plus 9?")), after=(first, 0), **sampling(dice))
    rewritten = second.then(user("and minus 2?"), echo=lambda said: {"role": "assistant", "content": "Forty-two."})
    third = await talk.ask(rewritten, after=(first, 0), change="edited_reply", **sampling(dice))
    await talk.ask(third.then(user(sum_of(dice))), after=(third, 0), **sampling(dice))
    early = [user("How much is it?"), *second.then(user("and plus 3?"))[1:]]
    await talk.ask(early, change="edited_question", **sampling(dice))
    if second.heard[0].get("reasoning"):
        otherwise = second.then(user("Why?"), echo=lambda said: {**said, "reasoning": "I have thought of it."})
        await talk.ask(otherwise, after=(second, 0), change="edited_reasoning", **sampling(dice))


async def trims(talk: Talk) -> None:
    """White space is taken off, line ends and Unicode forms are made the usual ones, the oldest turns are dropped."""
    dice = talk.dice
    first = await talk.ask([user(f"  {dice.choice(SPOKEN)}\n")], temperature=1.5)
    trimmed = first.then(user(sum_of(dice)), echo=lambda said: {**said, "content": (said.get("content") or "").strip()})
    second = await talk.ask(trimmed, after=(first, 0), change="normalised", **sampling(dice))
    formed = [{**one, "content": _normal(one.get("content"))} for one in second.then(user("and plus 2?"))]
    third = await talk.ask(formed, after=(second, 0), change="normalised", **sampling(dice))
    await talk.ask(third.then(user("and plus 2?")), after=(third, 0), **sampling(dice))
    await talk.ask(third.then(user("and plus 4?"))[2:], change="cut_history", **sampling(dice))
    await talk.ask([user("and plus 4?")], **sampling(dice))


def _normal(content: Any) -> Any:
    if not isinstance(content, str):
        return content
    return unicodedata.normalize("NFC", content.replace("\r\n", "\n")).strip()


async def thoughtless(talk: Talk) -> None:
    """The client gives back content and calls, never the reasoning."""
    dice = talk.dice
    fields: Fields = {"tools": [CALCULATOR]} if dice.random() < 0.5 else {}
    messages, after, change = [user(sum_of(dice))], None, None
    for _ in range(dice.randrange(3, 6)):
        turn = await talk.ask(messages, after=after, change=change, **sampling(dice), **fields)
        messages = turn.then(*_results(turn, dice), echo=_without_reasoning)
        after, change = (turn, 0), "dropped_reasoning" if turn.heard[0].get("reasoning") else change


def _without_reasoning(said: Message) -> Message:
    return {name: value for name, value in said.items() if name not in ("reasoning", "reasoning_content")}


async def cut_short(talk: Talk) -> None:
    """Stop strings, too few tokens, and replies of nothing; each is gone on from."""
    dice = talk.dice
    messages, after = [user(sum_of(dice))], None
    limits: list[Fields] = [
        {"stop": dice.choice(("=", "+", "\n", "</think>"))},
        {"stop": ["is", "5", "ones "], "include_stop_str_in_output": dice.random() < 0.5},
        {"max_tokens": dice.randrange(1, 14)},
        {"max_completion_tokens": dice.randrange(1, 14)},
        {"logit_bias": {"505": 100}},
        {"max_tokens": 1},
        {},
    ]
    dice.shuffle(limits)
    for limit in limits[: dice.randrange(4, 8)]:
        turn = await talk.ask(messages, after=after, **(sampling(dice) | limit), **dice.choice(({}, NOT_THINKING)))
        messages, after = turn.then(user(sum_of(dice))), (turn, 0)


async def wild(talk: Talk) -> None:
    """Text that nano never saw, sampled so hot that its tokens are no text at all."""
    dice = talk.dice
    messages, after = [user(dice.choice(SPOKEN))], None
    for _ in range(dice.randrange(3, 6)):
        hot: Fields = {"temperature": dice.choice((1.5, 2.0)), "max_tokens": dice.randrange(20, 90)}
        parts = dice.random() < 0.3
        turn = await talk.ask(messages, after=after, **hot, **dice.choice(({}, {"min_tokens": 10}, {"top_p": 0.9})))
        said = dice.choice(SPOKEN)
        content: Any = [{"type": "text", "text": said[:3]}, {"type": "text", "text": said[3:]}] if parts else said
        messages, after = turn.then({"role": "user", "content": content}), (turn, 0)


async def at_once(talk: Talk) -> None:
    """Several requests of one conversation at a time, some of whose clients go away."""
    dice = talk.dice
    first = await talk.ask([user(sum_of(dice))], **sampling(dice))
    long: Fields = {"min_tokens": 80, "temperature": 1.0}
    asked = [first.then(user(sum_of(dice))) for _ in range(3)]
    same = asked[0]
    turns = await asyncio.gather(
        *(talk.ask(messages, after=(first, 0), **sampling(dice)) for messages in asked),
        talk.ask(same, after=(first, 0), temperature=1.0, n=2),
        talk.ask([user("Hello")], **sampling(dice)),
        talk.leave(first.then(user("Count!")), after=(first, 0), stream=True, **long),
        talk.leave(first.then(user("Count on!")), after=(first, 0), stream=False, **long),
    )
    await talk.leave(turns[1].then(user("Go on")), after=(turns[1], 0), stream=True, n=2, **long)
    await asyncio.gather(
        *(talk.ask(turn.then(user("and plus 6?")), after=(turn, 0), **sampling(dice)) for turn in turns[:4])
    )


async def other_means(talk: Talk) -> None:
    """Tools come and go, and so does the system message."""
    dice = talk.dice
    off: Fields = dice.choice(({}, NOT_THINKING))
    first = await talk.ask([user(sum_of(dice))], tools=[CALCULATOR], **off)
    second = await talk.ask(first.then(*_results(first, dice)), after=(first, 0), tools=[CALCULATOR], **off)
    changed = [CALCULATOR, CLOCK] if dice.random() < 0.5 else None
    given: Fields = {"tools": changed} if changed else {}
    third = await talk.ask(second.then(user(sum_of(dice))), after=(second, 0), change="tools_changed", **given, **off)
    fourth = await talk.ask(third.then(user("and plus 1?")), after=(third, 0), **given, **off)
    told = [{"role": "system", "content": "You are another."}, *fourth.then(user("and plus 2?"))]
    fifth = await talk.ask(told, change="system_changed", **given, **off)
    await talk.ask(fifth.then(user("Thanks")), after=(fifth, 0), **given, **off)


async def texts(talk: Talk) -> None:
    """Text completions from ids that go on, and retries of what was answered."""
    dice = talk.dice
    ways: list[Fields] = [{}, {"stop": "="}, {"logprobs": 1}]
    ids = [dice.randrange(40, 300) for _ in range(12)]
    after = None
    for _ in range(3):
        turn = await talk.complete(ids, after=after, max_tokens=8, temperature=1.0, **dice.choice(ways))
        ids, after = [*await talk.ids_of_last(), *(dice.randrange(40, 300) for _ in range(5))], (turn, 0)
    first = await talk.ask([user(sum_of(dice))], stream=False, temperature=1.0)
    await talk.retry(first)
    await talk.ask(first.then(user("and plus 2?")), after=(first, 0))


PLANS: tuple[Plan, ...] = (
    faithful,
    tools,
    choices,
    branches,
    edits,
    trims,
    thoughtless,
    cut_short,
    wild,
    at_once,
    other_means,
    texts,
)
