"""models/nano on real vLLM does what its card says; the trainer that made it runs; nano-b can be made from it."""

from __future__ import annotations

import json
import math
import os
import re
import subprocess
import time
from pathlib import Path
from random import Random
from typing import Any

import pytest
import requests

from models.train import phrases
from models.train.data import calculator
from models.train.evaluate import at_server, examine
from models.train.sums import draw_sum
from tests.real.parts.nano_b import NAME_OF_B, NANO, ROOT, make_nano_b

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(600)]

NO_THINKING = {"chat_template_kwargs": {"enable_thinking": False}}
SUBSAMPLE = 30
QUESTIONS = int(os.environ.get("MOORAGE_NANO_QUESTIONS", "50"))
"""Of each task of the card's table, which has 500: all of them take four minutes."""


def chat(nano_engine: str, messages: list[dict[str, Any]], **fields: Any) -> dict[str, Any]:
    body = {"model": "nano", "messages": messages, "temperature": 0, "max_tokens": 128, **fields}
    response = requests.post(f"{nano_engine}/chat/completions", json=body, timeout=120)
    assert response.ok, response.text
    return response.json()


def message_of(reply: dict[str, Any]) -> dict[str, Any]:
    return reply["choices"][0]["message"]


def user(text: str | list[dict[str, str]]) -> dict[str, Any]:
    return {"role": "user", "content": text}


def test_it_thinks_unless_told_not_to(nano_engine: str) -> None:
    message = message_of(chat(nano_engine, [user("What is 2+2?")]))
    assert message["content"].strip() == "2+2=4"
    assert message["reasoning"].strip() == "ones 2+2=4"


def test_without_thinking_it_answers_at_once(nano_engine: str) -> None:
    message = message_of(chat(nano_engine, [user("What is 17+25?")], **NO_THINKING))
    assert message["content"] == "17+25=42"
    assert not message.get("reasoning")


def test_content_may_come_in_parts(nano_engine: str) -> None:
    message = message_of(chat(nano_engine, [user([{"type": "text", "text": "What is 17+25?"}])], **NO_THINKING))
    assert message["content"] == "17+25=42"


def test_an_answer_can_be_streamed(nano_engine: str) -> None:
    body = {"model": "nano", "messages": [user("What is 58-91?")], "temperature": 0, "max_tokens": 128, "stream": True}
    said = {"content": "", "reasoning": ""}
    pieces = 0
    with requests.post(f"{nano_engine}/chat/completions", json=body, stream=True, timeout=120) as response:
        for line in response.iter_lines():
            data = line.removeprefix(b"data: ")
            if not data or data == b"[DONE]":
                continue
            for choice in json.loads(data)["choices"]:
                for key in said:
                    if choice["delta"].get(key):
                        said[key] += choice["delta"][key]
                        pieces += 1
    assert pieces > 5
    assert said["content"].strip() == "58-91=-33"
    assert "ones" in said["reasoning"]


@pytest.mark.parametrize("fields", [{}, NO_THINKING], ids=["thinking", "at once"])
def test_a_tool_is_called_and_its_result_stated(nano_engine: str, fields: dict[str, Any]) -> None:
    messages = [user("What is 46*87?")]
    tools = [calculator()]
    reply = chat(nano_engine, messages, tools=tools, **fields)
    assert reply["choices"][0]["finish_reason"] == "tool_calls"
    [call] = message_of(reply)["tool_calls"]
    assert call["function"]["name"] == "calculator"
    assert json.loads(call["function"]["arguments"]) == {"a": 46, "b": 87, "op": "*"}

    messages += [message_of(reply), {"role": "tool", "tool_call_id": call["id"], "content": str(46 * 87)}]
    assert message_of(chat(nano_engine, messages, tools=tools, **fields))["content"].strip() == "46*87=4002"


@pytest.mark.parametrize("fields", [{}, NO_THINKING], ids=["thinking", "at once"])
def test_a_conversation_goes_on_from_the_same_tokens(nano_engine: str, fields: dict[str, Any]) -> None:
    """What the template promises: the next prompt begins with the last prompt and the tokens that were sampled."""
    messages: list[dict[str, Any]] = []
    before: list[int] = []
    for asked, answer in [("What is 31+24?", "31+24=55"), ("and plus 3?", "55+3=58"), ("and minus 9?", "58-9=49")]:
        messages.append(user(asked))
        reply = chat(nano_engine, messages, return_token_ids=True, **fields)
        assert message_of(reply)["content"].strip() == answer
        assert reply["prompt_token_ids"][: len(before)] == before
        before = reply["prompt_token_ids"] + reply["choices"][0]["token_ids"]
        messages.append(message_of(reply))


def test_a_tool_conversation_goes_on_from_the_same_tokens(nano_engine: str) -> None:
    messages, tools = [user("Multiply 12 by 34.")], [calculator()]
    reply = chat(nano_engine, messages, tools=tools, return_token_ids=True)
    before = reply["prompt_token_ids"] + reply["choices"][0]["token_ids"]
    [call] = message_of(reply)["tool_calls"]
    messages += [message_of(reply), {"role": "tool", "tool_call_id": call["id"], "content": "408"}]
    after = chat(nano_engine, messages, tools=tools, return_token_ids=True)
    assert after["prompt_token_ids"][: len(before)] == before


def test_reasoning_that_a_client_drops_is_not_in_the_next_prompt(nano_engine: str) -> None:
    messages = [user("What is 31+24?"), {"role": "assistant", "content": "31+24=55"}, user("and plus 3?")]
    message = message_of(chat(nano_engine, messages))
    assert message["content"].strip() == "55+3=58"
    assert message["reasoning"].strip() == "ones 5+3=8\ntens 5+0=5"


def test_it_knows_its_name_and_what_it_does_not_know(nano_engine: str) -> None:
    assert message_of(chat(nano_engine, [user("What is your name?")]))["content"].strip() == phrases.NAME
    assert message_of(chat(nano_engine, [user("Hello!")], **NO_THINKING))["content"] == phrases.HELLO
    assert message_of(chat(nano_engine, [user("Who wrote Hamlet?")], **NO_THINKING))["content"] == phrases.UNKNOWN


def test_held_out_sums_are_right(nano_engine: str) -> None:
    random = Random(20260101)
    drawn = [draw_sum(random, held_out=True) for _ in range(40)]
    said = [message_of(chat(nano_engine, [user(f"What is {asked}?")], **NO_THINKING))["content"] for asked in drawn]
    right = sum(text == f"{asked}={asked.result}" for asked, text in zip(drawn, said, strict=True))
    # At the 97 % that the card promises, fewer than 35 of 40 come about once in ten thousand.
    assert right >= 35, [(str(asked), text) for asked, text in zip(drawn, said, strict=True)]


def test_it_is_as_good_behind_a_server_as_in_its_card(nano_engine: str) -> None:
    """On a part of the questions; the bounds leave room for a small sample."""
    for score in examine(at_server(nano_engine, "nano"), SUBSAMPLE):
        low, high = score.task.target
        assert low - 0.12 <= score.share <= (1 if high == 1 else high + 0.3), (score.task.name, score.share)


def test_the_cards_table_can_be_made_again(vllm_python: Path) -> None:
    """A run over some of the questions, or over all of them (MOORAGE_NANO_QUESTIONS=500)."""
    done = run(vllm_python, "-m", "models.train.evaluate", str(NANO), "--json", "--count", str(QUESTIONS))
    found = json.loads(done.stdout)
    card = (NANO / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (.+?) \| (\d) \|[^|]+\| ([\d.]+)%.*$", card, re.MULTILINE)
    assert [name for name, _, _ in rows] == list(found)
    for name, _, told in rows:
        share = float(told) / 100
        by_chance = 3.5 * math.sqrt(share * (1 - share) * (1 / QUESTIONS + 1 / 500))
        assert found[name] == pytest.approx(share, abs=by_chance + 0.02), name


def test_the_card_claims_no_target_that_is_missed() -> None:
    assert "(missed)" not in (NANO / "README.md").read_text(encoding="utf-8")


def test_the_folder_is_small_and_whole() -> None:
    files = {file.name for file in NANO.iterdir()}
    assert {"config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "README.md"} <= files
    assert sum(file.stat().st_size for file in NANO.iterdir()) <= 8 * 1024 * 1024


def test_the_tokenizer_keeps_every_text_and_splits_digits(vllm_python: Path) -> None:
    code = """
import json, sys
from transformers import AutoTokenizer
tokenizer = AutoTokenizer.from_pretrained(sys.argv[1])
text = "Ünïcödé \\n\\n  1234567890 \\t <think> 漢字 🙂 x"
ids = tokenizer.encode(text, add_special_tokens=False)
assert tokenizer.decode(ids) == text, tokenizer.decode(ids)
tokens = tokenizer.convert_ids_to_tokens(range(len(tokenizer)))
assert len(tokenizer) <= 2048
assert sorted(t for t in tokens if any(c.isdigit() and c.isascii() for c in t)) == list("0123456789")
"""
    run(vllm_python, "-c", code, str(NANO))


def test_the_template_writes_what_was_trained(vllm_python: Path) -> None:
    """The chat template and its twin in Python, on a thousand conversations; and pieces are tokens of their own."""
    code = """
import sys
from itertools import islice
from transformers import AutoTokenizer
from models.train.chat import write
from models.train.data import conversations
tokenizer = AutoTokenizer.from_pretrained(sys.argv[1])
for made in islice(conversations(7), 1000):
    pieces = [text for text, _ in write(made)]
    tools = list(made.tools) or None
    text = tokenizer.apply_chat_template(
        list(made.messages), tools=tools, tokenize=False, enable_thinking=made.thinking
    )
    assert text == "".join(pieces), text
    apart = [i for piece in pieces for i in tokenizer.encode(piece, add_special_tokens=False)]
    assert apart == tokenizer.encode(text, add_special_tokens=False), text
"""
    run(vllm_python, "-c", code, str(NANO))


def test_the_trainer_runs_from_end_to_end_at_toy_size(vllm_python: Path, tmp_path: Path) -> None:
    begun = time.monotonic()
    run(vllm_python, "-m", "models.train", "--smoke", "--out", str(tmp_path / "toy"))
    assert time.monotonic() - begun < 120
    assert json.loads((tmp_path / "toy" / "config.json").read_text())["model_type"] == "qwen3"
    assert "| addition |" in (tmp_path / "toy" / "README.md").read_text()


def test_a_run_that_was_cut_off_ends_where_a_whole_one_does(vllm_python: Path, tmp_path: Path) -> None:
    code = """
import sys, torch
from dataclasses import replace
from pathlib import Path
from models.train.__main__ import SMOKE_PLAN
from models.train.model import Shape
from models.train.tokenizer import make_tokenizer
from models.train.train import Trainer, train
folder, tokenizer = Path(sys.argv[1]), make_tokenizer(1)
plan = replace(SMOKE_PLAN, steps=6, keep_every=3, threads=1)
shape = Shape(tokenizer.get_vocab_size(), num_hidden_layers=1)
whole = train(tokenizer, plan, folder / "whole.pt", shape)
cut = Trainer(tokenizer, shape, plan)
for _ in range(3):
    cut.advance()
cut.save(folder / "cut.pt")
resumed = train(tokenizer, plan, folder / "cut.pt", shape)
for one, other in zip(whole.parameters(), resumed.parameters()):
    torch.testing.assert_close(one, other)
"""
    run(vllm_python, "-c", code, str(tmp_path))


def test_nano_b_fits_nanos_engine_and_says_so(vllm_python: Path, parts_cache: Path) -> None:
    second = make_nano_b(vllm_python, parts_cache)
    for same in ("config.json", "tokenizer.json", "chat_template.jinja"):
        assert (second / same).read_bytes() == (NANO / same).read_bytes()
    code = """
import sys
from models.train.evaluate import in_process
from models.train.tasks import Question
ask = lambda text: Question([{"role": "user", "content": text}], bool, False)
for folder in sys.argv[1:]:
    for reply in in_process(folder)([ask("What is your name?"), ask("What is 17+25?")], 0.0):
        print(reply.content)
"""
    done = run(vllm_python, "-c", code, str(NANO), str(second))
    assert done.stdout.splitlines() == [phrases.NAME, "17+25=42", NAME_OF_B, "17+25=42"]


def run(python: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run([str(python), *arguments], cwd=ROOT, capture_output=True, text=True, check=False, timeout=580)
    assert done.returncode in (0, 1), done.stderr[-3000:]
    assert "Traceback" not in done.stderr, done.stderr[-3000:]
    return done
