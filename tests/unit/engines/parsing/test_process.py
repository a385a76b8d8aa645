"""The parser process as the gateway sees it, with programs that answer, hang, die and lie in the place of vLLM's."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from pathlib import Path

import pytest

from moorage.engines.parsing.feeding import Piece
from moorage.engines.parsing.process import Asked, Parsed, ParserProcess

PROGRAM = """
import json, os, sys, time
print("loading", file=sys.stderr)
started = open(os.path.join(sys.argv[1], "started"), "a"); started.write(f"{os.getpid()}\\n"); started.close()
if os.path.exists(os.path.join(sys.argv[1], "broken")):
    sys.exit("no module named vllm")
print(json.dumps({"ready": True}), flush=True)
for line in sys.stdin:
    ask = json.loads(line)
    if "feeds" in ask:
        said = [text for _, _, pieces in ask["feeds"] for text, _ in pieces]
        if "die" in said:
            os._exit(3)
        if "hang" in said:
            time.sleep(600)
        deltas = [{"content": "".join(text for text, _ in pieces).upper()} for _, _, pieces in ask["feeds"]]
        if "lie" in said:
            deltas = "nonsense"
        print(json.dumps({"id": ask["id"], "deltas": deltas}), flush=True)
        continue
    if "check" in ask:
        faults = {"tool": "no tokens"} if ask["check"]["tool_parser"] == "bad" else {}
        print(json.dumps({"id": ask["id"], "faults": faults}), flush=True)
        continue
    if "constrain" in ask:
        outputs = {"json": ask["constrain"]["tool_choice"]}
        print(json.dumps({"id": ask["id"], "structured_outputs": outputs}), flush=True)
        continue
    text = ask["text"]
    if text == "garbage":
        print("Loading checkpoint shards: 3%", flush=True)
    if text == "die":
        os._exit(3)
    if text == "die once" and len(open(os.path.join(sys.argv[1], "started")).readlines()) == 1:
        os._exit(3)
    if text == "hang":
        time.sleep(600)
    if text == "environment":
        text = " ".join(sorted(os.environ))
    if text == "fail":
        print(json.dumps({"id": ask["id"], "content": "x", "error": "ValueError: no"}), flush=True)
        continue
    calls = [{"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}] if ask["tools"] else []
    reply = {"content": text[::-1], "reasoning": ask["reasoning_parser"], "tool_calls": calls}
    print(json.dumps({"id": ask["id"], **reply}), flush=True)
"""
TOOLS = [{"type": "function", "function": {"name": "f"}}]
R = Asked(reasoning_parser="r")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "program.py").write_text(PROGRAM)
    return tmp_path


def run(folder, work, **settings):
    """`work(process)` in a loop of its own; the process is closed after it."""

    async def whole():
        settings.setdefault("environ", dict(os.environ))
        process = ParserProcess(Path(sys.executable), folder, program=folder / "program.py", **settings)
        try:
            return await asyncio.wait_for(work(process), 120)
        finally:
            await process.close()

    return asyncio.run(whole())


def starts(folder) -> int:
    path = folder / "started"
    return len(path.read_text().splitlines()) if path.exists() else 0


def test_nothing_is_started_when_nothing_is_to_be_parsed(folder):
    async def work(process):
        assert await process.parse("text", asked=Asked()) == Parsed(content="text")
        assert await process.parse("text", asked=Asked(tool_parser="hermes")) == Parsed(content="text")

    run(folder, work)
    assert starts(folder) == 0


def test_one_process_parses_all_and_many_at_once(folder):
    async def work(process):
        several = [process.parse(f"text {place} 🦊\ud800", asked=R) for place in range(50)]
        for place, parsed in enumerate(await asyncio.gather(*several)):
            assert parsed == Parsed(content=f"\ud800🦊 {str(place)[::-1]} txet", reasoning="r")
        called = await process.parse("x", asked=Asked(tool_parser="hermes", tools=TOOLS), ids=[1, 2])
        assert called.tool_calls[0]["function"]["name"] == "f"

    run(folder, work)
    assert starts(folder) == 1


def test_a_long_text_is_one_line(folder):
    async def work(process):
        text = "ä\n" * 1_000_000
        assert (await process.parse(text, asked=R)).content == text[::-1]

    run(folder, work)


def test_a_text_that_kills_the_parser_comes_back_unparsed_and_others_do_not(folder):
    async def work(process):
        dead, good = await asyncio.gather(process.parse("die", asked=R), process.parse("good", asked=R))
        assert dead.content == "die"
        assert "status 3" in dead.error
        assert good == Parsed(content="doog", reasoning="r")

    run(folder, work)


def test_a_process_that_died_is_started_again(folder):
    async def work(process):
        assert await process.parse("die once", asked=R) == Parsed(content="ecno eid", reasoning="r")

    run(folder, work)
    assert starts(folder) == 2


def test_a_text_that_takes_too_long_is_given_up_and_the_next_one_parsed(folder):
    async def work(process):
        await process.start()
        late = await process.parse("hang", asked=R)
        assert late.content == "hang"
        assert "longer than 0.5 s" in late.error
        assert (await process.parse("next", asked=R)).content == "txen"

    run(folder, work, parse_s=0.5)
    assert starts(folder) == 2


def test_a_parsers_own_fault_is_told_with_the_whole_text(folder):
    async def work(process):
        assert await process.parse("fail", asked=R) == Parsed(content="fail", error="ValueError: no")

    run(folder, work)


def own(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    """asyncio warns as well, now and then: of a child whose end was seen before its watcher saw it."""
    return [record for record in caplog.records if record.name.startswith("moorage.")]


def test_a_start_that_fails_is_not_tried_again_at_once(folder, caplog):
    (folder / "broken").touch()
    now = [0.0]

    async def work(process):
        for _ in range(3):
            parsed = await process.parse("text", asked=R)
            assert parsed.content == "text"
            assert "no module named vllm" in parsed.error
        assert starts(folder) == 1
        (folder / "broken").unlink()
        now[0] = 31.0
        assert (await process.parse("text", asked=R)).error is None

    with caplog.at_level(logging.WARNING):
        run(folder, work, clock=lambda: now[0])
    assert starts(folder) == 2
    assert len(own(caplog)) == 1


def test_a_start_that_never_ends_is_given_up(folder):
    (folder / "program.py").write_text("import time\ntime.sleep(600)\n")

    async def work(process):
        assert "not ready within 0.3 s" in (await process.parse("text", asked=R)).error

    run(folder, work, start_s=0.3)


def test_a_program_that_cannot_be_run_is_told(folder):
    async def work():
        process = ParserProcess(folder / "python", folder)
        parsed = await process.parse("text", asked=R)
        assert parsed.content == "text"
        assert parsed.error

    asyncio.run(work())


def test_without_vllm_parsing_is_off_with_one_warning(folder, caplog):
    async def work():
        process = ParserProcess(None, folder)
        assert not process.enabled
        assert not await process.start()
        for _ in range(3):
            parsed = await process.parse("text", asked=R)
            assert (parsed.content, parsed.error is not None) == ("text", True)

    with caplog.at_level(logging.WARNING):
        asyncio.run(work())
    assert len(own(caplog)) == 1


def test_keys_are_not_passed_on(folder):
    async def work(process):
        parsed = await process.parse("environment", asked=R)
        return parsed.content[::-1].split()

    names = run(folder, work, environ={"PATH": os.environ["PATH"], "OPENAI_API_KEY": "k", "VLLM_API_KEY_X": "1"})
    assert "OPENAI_API_KEY" not in names
    assert "PATH" in names


def test_a_start_goes_on_when_the_request_that_needed_it_is_cancelled(folder):
    (folder / "program.py").write_text(PROGRAM.replace('print("loading"', 'time.sleep(0.3); print("loading"'))

    async def work(process):
        first = asyncio.create_task(process.parse("first", asked=R))
        await asyncio.sleep(0)
        first.cancel()
        assert (await process.parse("next", asked=R)).content == "txen"

    run(folder, work)
    assert starts(folder) == 1


def test_closing_while_it_starts_ends_it(folder):
    (folder / "program.py").write_text("import time\ntime.sleep(600)\n")

    async def work(process):
        waiting = asyncio.create_task(process.parse("text", asked=R))
        await asyncio.sleep(0)
        await process.close()
        assert (await waiting).content == "text"

    run(folder, work)


def test_closing_ends_the_process_and_what_waits_for_it(folder):
    async def work(process):
        await process.start()
        waiting = asyncio.create_task(process.parse("hang", asked=R))
        while starts(folder) < 1:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0)
        await process.close()
        assert (await waiting).content == "hang"
        assert (await process.parse("text", asked=R)).error

    run(folder, work)
    pid = int((folder / "started").read_text())
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_many_streams_are_fed_in_few_conversations(folder):
    async def work(process):
        await process.start()
        asked = 0
        ask_now = process._feeding._ask

        async def counted(ask, within_s):
            nonlocal asked
            asked += 1
            return await ask_now(ask, within_s)

        process._feeding._ask = counted
        streams = [process.stream(R) for _ in range(200)]
        said = await asyncio.gather(*(one.feed([Piece("ab", [1]), Piece("c", [2])]) for one in streams))
        assert said == [[{"content": "ABC"}]] * 200
        assert asked < 5

    run(folder, work)
    assert starts(folder) == 1


@pytest.mark.parametrize("bad", ["die", "hang", "lie"])
def test_a_stream_that_breaks_says_so_and_whole_texts_are_parsed_still(folder, bad, monkeypatch):
    monkeypatch.setattr("moorage.engines.parsing.feeding.FEED_S", 0.5)

    async def work(process):
        await process.start()
        stream, other = process.stream(R), process.stream(R)
        assert await stream.feed([Piece("a", [1])]) == [{"content": "A"}]
        assert await stream.feed([Piece(bad, [1])]) == []
        while stream.broken is None:
            await stream.feed([])
        assert await stream.feed([Piece("b", [1])]) == []
        stream.close()
        assert (await process.parse("text", asked=R)).content == "txet"
        assert await other.feed([Piece("b", [1])]) == [{"content": "B"}]
        other.close()

    run(folder, work)


def test_a_stream_without_a_process_adds_nothing_and_closing_wakes_who_waits(folder):
    async def work(process):
        assert await process.stream(R).feed([Piece("a", [1])]) == []
        await process.start()
        stream = process.stream(R)
        waiting = asyncio.create_task(stream.feed([Piece("hang", [1])]))
        await asyncio.sleep(0)
        await process.close()
        assert await waiting == []

    run(folder, work)


def test_a_process_that_says_nonsense_is_ended_and_the_next_text_parsed(folder):
    async def work(process):
        parsed = await process.parse("garbage", asked=R)
        assert parsed.content == "garbage"
        assert "no reply" in parsed.error
        assert (await process.parse("text", asked=R)).content == "txet"

    run(folder, work)


def test_a_process_that_dies_again_and_again_is_left_alone_for_a_while(folder):
    now = [0.0]

    async def work(process):
        for _ in range(6):
            assert (await process.parse("die", asked=R)).error
        begun = starts(folder)
        assert begun <= 7
        assert "again and again" in (await process.parse("text", asked=R)).error
        assert starts(folder) == begun
        now[0] = 121.0
        assert (await process.parse("text", asked=R)).content == "txet"

    run(folder, work, clock=lambda: now[0])


def test_a_parser_that_cannot_be_made_is_told_once(folder, caplog):
    async def work(process):
        for _ in range(3):
            await process.check("bad", None)
            await process.check("good", None)
        process.check_later("bad", None)
        assert process.fault("tool", "bad") == "no tokens"
        assert process.fault("tool", "good") is None
        assert process.fault("reasoning", "bad") is None

    with caplog.at_level(logging.WARNING):
        run(folder, work)
    assert len(own(caplog)) == 1


def test_a_constraint_is_asked_for_once(folder):
    asked = Asked(tool_parser="hermes", tools=TOOLS, tool_choice="required")

    async def work(process):
        assert await process.constrain(asked, {}) == {"json": "required"}
        os.kill(int((folder / "started").read_text()), 9)
        assert await process.constrain(asked, {}) == {"json": "required"}
        with pytest.raises(ValueError, match="no parser"):
            await process.constrain(Asked(), {})

    run(folder, work)
    assert starts(folder) == 1


def test_a_stream_waits_not_for_a_text_that_takes_long_and_gets_its_pieces_later(folder, monkeypatch):
    monkeypatch.setattr("moorage.engines.parsing.feeding.WAIT_S", 0.05)
    (folder / "program.py").write_text(PROGRAM.replace('if text == "garbage"', 'time.sleep(text == "slow")\n    if 0'))

    async def work(process):
        await process.start()
        slow = asyncio.create_task(process.parse("slow", asked=R))
        await asyncio.sleep(0)
        stream = process.stream(R)
        assert await stream.feed([Piece("a", [1])]) == []
        assert not slow.done()
        await slow
        found = []
        while len(found) < 2:
            found += await stream.feed([] if found else [Piece("b", [1])])
        assert "".join(one["content"] for one in found) == "AB"

    run(folder, work)
