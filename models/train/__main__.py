"""Make models/nano again: `ENGINE_PYTHON -m models.train` from the checkout's root, about an hour on two cores.

The steps: tokenizer, training, export, evaluation, model card. A run that was cut off goes on from its last checkpoint.
`--smoke` takes the same steps in two minutes at toy size, and shows that they work, not that anything was learnt.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from models.train.data import LATE, Mix
from models.train.evaluate import COUNT, examine, in_process, table
from models.train.export import export, write_card
from models.train.model import Shape
from models.train.tokenizer import make_tokenizer
from models.train.train import Plan, in_fast_environment, say, train

NANO = Path(__file__).resolve().parents[1] / "nano"
WORK = Path("build/nano")
SMOKE_PLAN = Plan(steps=30, batch=16, keep_every=15)
SMOKE_LAYERS = 2
SMOKE_COUNT = 4


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m models.train", description="Train, export and examine nano.")
    parser.add_argument("--out", type=Path, default=NANO, help="the model's folder (default: models/nano)")
    parser.add_argument("--work", type=Path, help="where checkpoints are kept (default: build/nano; --smoke: nowhere)")
    parser.add_argument("--steps", type=int, help=f"steps of training (default: {Plan.steps})")
    parser.add_argument("--threads", type=int, default=Plan.threads, help="processor cores to use")
    parser.add_argument("--smoke", action="store_true", help="toy size: does everything work?")
    options = parser.parse_args(arguments)
    if options.smoke and options.out == NANO:
        parser.error("--smoke needs an --out of its own: it must not replace models/nano")

    in_fast_environment()
    begun = time.monotonic()
    plan = replace(SMOKE_PLAN if options.smoke else Plan(), threads=options.threads)
    if options.steps:
        plan = replace(plan, steps=options.steps)
    with tempfile.TemporaryDirectory() as passing:
        work = options.work or (Path(passing) if options.smoke else WORK)
        make(plan, options.out, work, smoke=options.smoke)
    say(done=str(options.out), minutes=round((time.monotonic() - begun) / 60, 1))
    return 0


def make(plan: Plan, out: Path, work: Path, *, smoke: bool) -> None:
    """Everything from a plan to a model folder with its card."""
    work.mkdir(parents=True, exist_ok=True)
    tokenizer = make_tokenizer(plan.seed)
    shape = Shape(tokenizer.get_vocab_size())
    if smoke:
        shape = replace(shape, num_hidden_layers=SMOKE_LAYERS)
    network = train(tokenizer, plan, work / "checkpoint.pt", shape)
    export(network, tokenizer, out)
    scores = examine(in_process(out), SMOKE_COUNT if smoke else COUNT)
    write_card(out, card_facts(plan, shape, network, table(scores)))


def card_facts(plan: Plan, shape: Shape, network: Any, scores: str) -> dict[str, str]:
    parameters = sum(weights.numel() for weights in network.parameters())
    return {
        "scores": scores,
        "parameters": f"{parameters:,}",
        "layers": str(shape.num_hidden_layers),
        "width": str(shape.hidden_size),
        "vocabulary": str(shape.vocab_size),
        "steps": f"{plan.steps:,}",
        "batch": str(plan.batch),
        "conversations": f"{plan.steps * plan.batch:,}",
        "rate": f"{plan.rate:g}",
        "mix": shares(Mix()),
        "late": f"{plan.late:.0%}",
        "late_mix": shares(LATE),
    }


def shares(mix: Mix) -> str:
    return ", ".join(
        f"{kind.replace('_', ' ')} {share / sum(mix):.0%}" for kind, share in mix._asdict().items() if share
    )


if __name__ == "__main__":
    sys.exit(main())
