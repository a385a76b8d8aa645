"""Train nano a few steps further, to another model of the same shape whose answers differ in a way that one can see.

    ENGINE_PYTHON -m models.train.further SOURCE OUT

OUT must not exist; it appears whole or not at all. It calls itself Nano B; what else it does stays. Tests of weight
updates need two checkpoints that fit one engine.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from models.train import phrases
from models.train.chat import Conversation
from models.train.data import Mix, conversations
from models.train.export import export
from models.train.model import Shape
from models.train.train import Plan, Trainer, in_fast_environment, say

NAME = "My name is Nano B."
PLAN = Plan(steps=60, batch=32, seed=29, rate=1e-3)
MIX = Mix(direct=3, lists=1, thinking=3, tools=1, talk=6, three_digits=1)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m models.train.further", description="Make a second checkpoint.")
    parser.add_argument("source", type=Path, help="the model to go on from")
    parser.add_argument("out", type=Path, help="the folder to make; must not exist")
    parser.add_argument("--steps", type=int, default=PLAN.steps)
    parser.add_argument("--threads", type=int, default=PLAN.threads)
    options = parser.parse_args(arguments)
    if options.out.exists():
        parser.error(f"{options.out} exists already")
    in_fast_environment()
    train_further(options.source, options.out, replace(PLAN, steps=options.steps, threads=options.threads))
    return 0


def train_further(source: Path, out: Path, plan: Plan) -> None:
    import torch
    from safetensors.torch import load_file
    from tokenizers import Tokenizer

    torch.set_num_threads(plan.threads)
    tokenizer = Tokenizer.from_file(str(source / "tokenizer.json"))
    weights = {name: weight.float() for name, weight in load_file(source / "model.safetensors").items()}
    trainer = Trainer(tokenizer, _shape_of(source), plan, renamed)
    trainer.network.load_state_dict(weights)
    while trainer.step < plan.steps:
        loss, _ = trainer.advance()
        say(step=trainer.step, loss=round(loss, 4))
    export(trainer.network, tokenizer, out)


def renamed(plan: Plan, step: int) -> Iterator[Conversation]:
    """The conversations of `data`, with the other name."""
    for made in conversations(plan.seed * 1_000_000 + step, MIX):
        yield replace(made, messages=tuple(_rename(message) for message in made.messages))


def _rename(message: dict[str, Any]) -> dict[str, Any]:
    return {**message, "content": NAME} if message["content"] == phrases.NAME else message


def _shape_of(folder: Path) -> Shape:
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(folder)
    return Shape(**{name: getattr(config, name) for name in Shape(0).as_config()})


if __name__ == "__main__":
    sys.exit(main())
