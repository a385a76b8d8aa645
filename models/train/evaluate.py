"""Examine a model: in this process with transformers, or behind an OpenAI-compatible server.

    python -m models.train.evaluate MODEL_FOLDER [--count N] [--json]
    python -m models.train.evaluate --url http://HOST:PORT/v1 --model NAME [--count N] [--json]

The server must parse: `--enable-auto-tool-choice --tool-call-parser hermes --reasoning-parser qwen3`.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import urllib.request
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.train.chat import MARKS, PAD
from models.train.tasks import Question, Reply, Task, tasks

COUNT = 500
LONGEST = 160
"""Tokens that a reply may have; right ones have fewer than 100."""
AT_ONCE = 64
SEED = 1

Answerer = Callable[[Sequence[Question], float], list[Reply]]


@dataclass(frozen=True)
class Score:
    task: Task
    right: int
    count: int

    @property
    def share(self) -> float:
        return self.right / self.count

    @property
    def is_met(self) -> bool:
        low, high = self.task.target
        return low <= self.share <= high


def main(arguments: list[str] | None = None) -> int:
    """Exit status 0 when every target is met, else 1."""
    parser = argparse.ArgumentParser(prog="python -m models.train.evaluate", description="Examine nano.")
    parser.add_argument("folder", type=Path, nargs="?", help="the model's folder, examined in this process")
    parser.add_argument("--url", help="a server's base URL with /v1, instead of a folder")
    parser.add_argument("--model", default="nano", help="the model's name at the server")
    parser.add_argument("--count", type=int, default=COUNT, help="questions a task")
    parser.add_argument("--json", action="store_true", help="scores as one JSON object instead of a table")
    options = parser.parse_args(arguments)
    if bool(options.folder) == bool(options.url):
        parser.error("give either a folder or --url")
    answer = at_server(options.url, options.model) if options.url else in_process(options.folder)
    scores = examine(answer, options.count)
    told = json.dumps({score.task.name: score.share for score in scores}) if options.json else table(scores)
    sys.stdout.write(told + "\n")
    return 0 if all(score.is_met for score in scores) else 1


def examine(answer: Answerer, count: int = COUNT, seed: int = SEED) -> list[Score]:
    scores = []
    for task in tasks():
        questions = task.questions(seed, count)
        replies = answer(questions, task.temperature)
        right = sum(question.right(reply) for question, reply in zip(questions, replies, strict=True))
        scores.append(Score(task, right, len(questions)))
    return scores


def table(scores: Sequence[Score]) -> str:
    """Markdown, as in the model card."""
    rows = ["| task | temperature | target | right | of |", "|---|---|---|---|---|"]
    for score in scores:
        low, high = score.task.target
        target = f"≥ {low:.0%}" if high == 1 else f"{low:.0%} to {high:.0%}"
        missed = "" if score.is_met else " (missed)"
        rows.append(
            f"| {score.task.name} | {score.task.temperature:g} | {target} | {score.share:.1%}{missed} | {score.count} |"
        )
    return "\n".join(rows)


def in_process(folder: Path, seed: int = SEED) -> Answerer:
    """Batches of AT_ONCE through transformers, in float32 whatever the file holds."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()

    def generate(questions: Sequence[Question], temperature: float) -> list[Reply]:
        prompts = [_prompt(tokenizer, question) for question in questions]
        inputs = tokenizer(prompts, return_tensors="pt", padding=True, add_special_tokens=False)
        sampling = {"do_sample": True, "temperature": temperature, "top_k": 0, "top_p": 1.0}
        made = model.generate(
            input_ids=inputs["input_ids"],
            attention_mask=inputs["attention_mask"],
            max_new_tokens=LONGEST,
            **(sampling if temperature else {"do_sample": False}),
        )
        texts = tokenizer.batch_decode(made[:, inputs["input_ids"].shape[1] :], skip_special_tokens=False)
        return [read_reply(text) for text in texts]

    def answer(questions: Sequence[Question], temperature: float) -> list[Reply]:
        torch.manual_seed(seed)
        groups = (questions[start : start + AT_ONCE] for start in range(0, len(questions), AT_ONCE))
        return [reply for group in groups for reply in generate(group, temperature)]

    return answer


def _prompt(tokenizer: Any, question: Question) -> str:
    rendered: str = tokenizer.apply_chat_template(
        question.messages,
        tools=question.tools or None,
        tokenize=False,
        add_generation_prompt=True,
        enable_thinking=question.thinking,
    )
    return rendered


def read_reply(text: str) -> Reply:
    """Split a generated text as an engine's parsers do. A call that is no JSON, or text beside it, stays content."""
    text = re.split(r"<\|im_end\|>|" + re.escape(PAD), text)[0]
    reasoning = ""
    if text.startswith("<think>") and "</think>" in text:
        reasoning, text = text.removeprefix("<think>").split("</think>", 1)
    calls = []
    for found in re.findall(r"<tool_call>(.*?)</tool_call>", text, re.DOTALL):
        try:
            call = json.loads(found)
            calls.append((call["name"], call["arguments"]))
        except (ValueError, KeyError, TypeError):
            return Reply(text, reasoning.strip())
    content = re.sub(r"<tool_call>.*?</tool_call>", "", text, flags=re.DOTALL) if calls else text
    return Reply(content.strip(), reasoning.strip(), tuple(calls))


def at_server(url: str, model: str, at_once: int = 16) -> Answerer:
    """Chat completions of a server that parses tool calls and reasoning itself."""

    def one(question: Question, temperature: float) -> Reply:
        body = {
            "model": model,
            "messages": [_as_sent(message) for message in question.messages],
            "temperature": temperature,
            "max_tokens": LONGEST,
            "chat_template_kwargs": {"enable_thinking": question.thinking},
        } | ({"tools": question.tools} if question.tools else {})
        request = urllib.request.Request(  # noqa: S310 - the URL is the caller's own server
            f"{url.rstrip('/')}/chat/completions",
            json.dumps(body).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=300) as response:  # noqa: S310
            return read_message(json.load(response)["choices"][0]["message"])

    def answer(questions: Sequence[Question], temperature: float) -> list[Reply]:
        with ThreadPoolExecutor(at_once) as pool:
            return list(pool.map(lambda question: one(question, temperature), questions))

    return answer


def read_message(message: dict[str, Any]) -> Reply:
    """A chat completion's message; marks that the server left unparsed make it wrong, as content."""
    functions = [call["function"] for call in message.get("tool_calls") or []]
    content = message.get("content") or ""
    if any(mark in content for mark in MARKS):
        return Reply(content)
    calls = tuple((function["name"], json.loads(function["arguments"])) for function in functions)
    return Reply(content.strip(), (message.get("reasoning") or "").strip(), calls)


def _as_sent(message: dict[str, Any]) -> dict[str, Any]:
    """Arguments as text, which is what the API takes."""
    if "tool_calls" not in message:
        return message
    calls = [
        {**call, "function": {**call["function"], "arguments": json.dumps(call["function"]["arguments"])}}
        for call in message["tool_calls"]
    ]
    return {**message, "tool_calls": calls}


if __name__ == "__main__":
    sys.exit(main())
