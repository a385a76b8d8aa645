"""The stub and the load of the gateway's benchmark, against each other."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Awaitable, Callable

import pytest

from bench.gateway.accounting import tree_cpu_s
from bench.gateway.load import BARRIER, Ask, Report, Script, run_load
from bench.gateway.long_sessions import long_bodies
from bench.gateway.scripts import CHAT, LONG_CONVERSATION_TURNS, chats, make_bodies
from bench.gateway.speech import SAMPLED_TOKENS, Speech, ids_json, load_speech, wide_answer
from bench.gateway.stub import PROMPT_TOKENS, Book, Serving
from bench.gateway.turns import LAST_TURN, NEW_TOKENS, TURN_TOKENS, TurnIds, prompt_tokens, variant_of
from tests.conftest import ROOT


@pytest.fixture(scope="module")
def speech() -> Speech:
    return load_speech(ROOT / "models" / "nano")


@pytest.fixture(scope="module")
def book(speech: Speech) -> Book:
    return Book(speech)


def test_a_chat_is_17_kb_with_the_ids_of_prompt_and_answer(book):
    body = _content(book.chat(b"{}"))
    reply = json.loads(body)
    choice = reply["choices"][0]
    assert 16_000 < len(body) < 19_000
    assert len(reply["prompt_token_ids"]) == reply["usage"]["prompt_tokens"] == PROMPT_TOKENS
    assert len(choice["token_ids"]) == len(choice["logprobs"]["content"]) == SAMPLED_TOKENS
    assert reply["usage"]["total_tokens"] == PROMPT_TOKENS + SAMPLED_TOKENS


def test_a_streamed_chat_says_what_the_whole_one_says(book):
    frames = book.chat_stream(b'{"stream_options":{"include_usage":true}}')
    assert frames[-1] == b"data: [DONE]\n\n"
    events = [json.loads(frame[6:]) for frame in frames[:-1]]
    whole = json.loads(_content(book.chat(b"{}")))
    assert events[0]["prompt_token_ids"] == whole["prompt_token_ids"]
    assert events[-1]["usage"]["completion_tokens"] == SAMPLED_TOKENS
    choices = [event["choices"][0] for event in events[1:-1]]
    assert [token for choice in choices for token in choice["token_ids"]] == whole["choices"][0]["token_ids"]
    assert "".join(choice["delta"]["content"] for choice in choices) == whole["choices"][0]["message"]["content"]
    assert book.chat_stream(b"{}") == [*frames[:-2], frames[-1]]


def test_a_prompt_of_ids_is_echoed_and_its_length_chooses_the_answer(book, speech):
    for turn in (1, 2, 7):
        prompt = list(range(prompt_tokens(turn)))
        asked = b'{"model":"bench","prompt":' + ids_json(prompt) + b',"max_tokens":128}'
        choice = json.loads(_content(book.completion(asked)))["choices"][0]
        assert choice["prompt_token_ids"] == prompt
        assert choice["text"] == speech.answer(turn - 1).text
        assert choice["token_ids"] == speech.answer(turn - 1).ids
        atropos = json.loads(_content(book.generate(b'{"prompt": {"prompt_token_ids": ' + ids_json(prompt) + b"}}")))
        assert atropos["prompt_token_ids"] == prompt
        assert [int(next(iter(row[0]))) for row in atropos["logprobs"][0]] == choice["token_ids"]
        first = json.loads(book.completion_stream(asked)[0][6:])
        assert first["choices"][0]["prompt_token_ids"] == prompt


def test_each_turn_goes_on_where_the_last_one_ended(book):
    turns, answer = TurnIds(), wide_answer(1)
    for turn in (1, 5, LAST_TURN - 1):
        before = json.loads(turns.prompt(turn)) + turns.answer(answer, turn).ids
        after = json.loads(turns.prompt(turn + 1))
        assert after[: len(before)] == before
        assert len(after) == len(before) + NEW_TOKENS == prompt_tokens(turn + 1)
    reply = json.loads(_content(book.chat(b'{"user":"turn-5"}')))
    assert reply["prompt_token_ids"] == json.loads(turns.prompt(5))
    assert reply["choices"][0]["token_ids"] == turns.answer(answer, 5).ids


def test_an_answer_is_known_by_its_turn_also_where_a_template_counts_a_few_tokens_more():
    assert [variant_of(prompt_tokens(turn)) for turn in (1, 2, 17)] == [0, 1, 0]
    assert variant_of(prompt_tokens(48) + 47) == variant_of(prompt_tokens(48)) == 47 % 16
    assert TURN_TOKENS == NEW_TOKENS + SAMPLED_TOKENS


def test_conversations_are_known_before_they_are_held(speech):
    bodies = make_bodies(speech)
    assert 2000 < len(bodies.chat) < 2200
    assert len(bodies.talk) == LONG_CONVERSATION_TURNS
    last = json.loads(bodies.talk[-1][0])["messages"]
    assert [message["content"] for message in last[1::2]] == [said for _, said in bodies.talk[:-1]]
    long = [json.loads(body) for body in long_bodies(speech, "exact")[:3]]
    assert long[2]["messages"][:3] == long[1]["messages"]
    assert [body["user"] for body in long] == ["turn-1", "turn-2", "turn-3"]


def test_texts_have_the_number_of_tokens_that_was_asked_for(speech):
    answer = speech.answer(3)
    assert len(answer.ids) == len(answer.pieces) == len(answer.logprobs) == SAMPLED_TOKENS
    assert answer.text == "".join(answer.pieces[:-1])
    assert "\ufffd" not in answer.text


def test_what_is_counted_begins_at_the_barrier(book):
    def scripts() -> list[Script]:
        return [chats(CHAT, b'{"messages":[]}', 5) for _ in range(3)]

    report = _with_stub(book, lambda port: run_load(port, scripts(), time.process_time))
    assert (report.requests, report.errors) == (15, 0)
    assert report.calls_answered == 15 + 3 * 2
    assert len(report.latencies_s) == len(report.first_byte_s) == 15
    assert report.body_bytes == 15 * len(_content(book.chat(b"{}")))
    assert report.cpu_s is not None and report.cpu_s > 0


def test_errors_are_counted_and_told(book):
    def script() -> Script:
        yield BARRIER
        reply = yield Ask("/nowhere", b"{}")
        assert reply is not None and reply.status == 404
        yield Ask("/v1/models")

    report = _with_stub(book, lambda port: run_load(port, [script()]))
    assert (report.requests, report.errors) == (1, 1)
    assert report.faults[0].startswith("404")


def test_a_warm_up_that_fails_ends_the_load(book):
    with pytest.raises(RuntimeError, match="warm-up: 404"):
        _with_stub(book, lambda port: run_load(port, [chats("/nowhere", b"{}", 1)]))


def test_a_connection_that_is_closed_is_an_error_and_is_opened_again():
    def script() -> Script:
        yield BARRIER
        for _ in range(3):
            yield Ask("/v1/models")

    async def rude(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await _reader.readuntil(b"\r\n\r\n")
        writer.close()

    async def both() -> Report:
        async with await asyncio.start_server(rude, "127.0.0.1", 0) as server:
            return await run_load(server.sockets[0].getsockname()[1], [script()])

    report = asyncio.run(both())
    assert (report.requests, report.errors) == (0, 3)


def test_a_stream_is_paced_and_read_to_its_end(book):
    def script() -> Script:
        yield BARRIER
        yield Ask(CHAT, b'{"stream":true}')

    report = _with_stub(book, lambda port: run_load(port, [script()]))
    assert report.requests == 1
    assert report.latencies_s[0] > 0.6 > report.first_byte_s[0]
    assert report.body_bytes == sum(map(len, book.chat_stream(b"{}")))


def test_cpu_is_counted_by_the_operating_system():
    before = tree_cpu_s(os.getpid())
    until = time.process_time() + 0.02
    while time.process_time() < until:
        pass
    assert tree_cpu_s(os.getpid()) - before >= 0.02


def _with_stub(book: Book, load: Callable[[int], Awaitable[Report]]) -> Report:
    async def both() -> Report:
        loop = asyncio.get_running_loop()
        async with await loop.create_server(lambda: Serving(book, loop), "127.0.0.1", 0) as server:
            return await load(server.sockets[0].getsockname()[1])

    return asyncio.run(both())


def _content(reply: bytes) -> bytes:
    return reply.partition(b"\r\n\r\n")[2]
