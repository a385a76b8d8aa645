"""Training: batches by the step's number, so that a run that was cut off goes on as if it had not been."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from models.train.chat import Conversation, write
from models.train.data import LATE, conversations
from models.train.model import Nano, Shape
from models.train.sums import LAST_RIGHT_SHARE, RIGHT_SHARE

ENVIRONMENT = {
    "MALLOC_MMAP_THRESHOLD_": "4000000000",
    "MALLOC_TRIM_THRESHOLD_": "16000000000",
    "OMP_WAIT_POLICY": "PASSIVE",
    "TOKENIZERS_PARALLELISM": "false",
}
"""Read when a program starts. Without the first two glibc gives every large tensor back to the system and asks for it
again, without the third the threads burn the processor while they wait: each is worth a factor of two to four."""

LIKE = 0.7


@dataclass(frozen=True)
class Plan:
    """A run. `batch`: conversations a step. `rates`: the share of the full rate at parts of the run, linear between
    them. `late`: the part of the run after which LATE is the mix. `last`: the
    part after which more of the three-digit sums slip, because a model got more of them right than its data."""

    steps: int = 2750
    batch: int = 64
    seed: int = 17
    rate: float = 3e-3
    rates: tuple[tuple[float, float], ...] = (
        *((0, 0), (100 / 2750, 1), (1200 / 2750, 1), (1800 / 2750, 0.5), (2700 / 2750, 0)),
        *((2701 / 2750, 0.15), (1, 0)),
    )
    late: float = 1800 / 2750
    last: float = 2700 / 2750
    keep_every: int = 250
    threads: int = 2


Source = Callable[[Plan, int], Iterator[Conversation]]
"""From a plan and the number of a step, an endless row of conversations."""


@dataclass(frozen=True)
class Batch:
    """`ids` [B, S] padded at the end, `wanted` [B, S] true where the next token is learnt, `targets` [N]."""

    ids: Tensor
    wanted: Tensor
    targets: Tensor


def rate_at(plan: Plan, step: int) -> float:
    """The learning rate of a step, counted from 0."""
    part = (step + 0.5) / plan.steps
    for (start, low), (end, high) in pairwise(plan.rates):
        if part <= end:
            return plan.rate * (low + (high - low) * (part - start) / (end - start))
    return 0.0


def planned(plan: Plan, step: int) -> Iterator[Conversation]:
    """The conversations of a step."""
    late = step >= round(plan.late * plan.steps)
    right = LAST_RIGHT_SHARE if step >= round(plan.last * plan.steps) else RIGHT_SHARE
    return conversations(plan.seed * 1_000_000 + step, LATE if late else None, right)


def encode(tokenizer: Any, made: list[Conversation]) -> list[tuple[list[int], list[bool]]]:
    """For each conversation its ids and, for each of them, whether it is learnt."""
    written = [write(conversation) for conversation in made]
    encoded = iter(tokenizer.encode_batch([text for pieces in written for text, _ in pieces]))
    rows = []
    for pieces in written:
        ids: list[int] = []
        learnt: list[bool] = []
        for _, is_learnt in pieces:
            own = next(encoded).ids
            ids += own
            learnt += [is_learnt] * len(own)
        rows.append((ids, learnt))
    return rows


def batches(tokenizer: Any, plan: Plan, step: int, source: Source = planned) -> Iterator[Batch]:
    """The parts of one step's batch, long conversations first."""
    rows = encode(tokenizer, list(islice(source(plan, step), plan.batch)))
    for part in of_like_length(rows):
        ids = torch.zeros(len(part), max(len(row) for row, _ in part), dtype=torch.long)
        learnt = torch.zeros_like(ids, dtype=torch.bool)
        for place, (row, marks) in enumerate(part):
            ids[place, : len(row)] = torch.tensor(row)
            learnt[place, : len(row)] = torch.tensor(marks)
        yield Batch(ids[:, :-1], learnt[:, 1:], ids[:, 1:][learnt[:, 1:]])


def of_like_length(rows: list[tuple[list[int], list[bool]]]) -> Iterator[list[tuple[list[int], list[bool]]]]:
    """Groups in which the shortest row has at least LIKE of the longest one's length, so that little is padding."""
    part: list[tuple[list[int], list[bool]]] = []
    for row in sorted(rows, key=lambda row: -len(row[0])):
        if part and len(row[0]) < LIKE * len(part[0][0]):
            yield part
            part = []
        part.append(row)
    yield part


class Trainer:
    """A network, its optimizers and the step it is at. Matrices are moved by Muon, the rest by AdamW."""

    def __init__(self, tokenizer: Any, shape: Shape, plan: Plan, source: Source = planned) -> None:
        torch.manual_seed(plan.seed)
        self.tokenizer, self.plan, self.source, self.step = tokenizer, plan, source, 0
        self.network = Nano(shape)
        matrices = [weight for weight in self.network.model.layers.parameters() if weight.dim() == 2]
        others = [weight for weight in self.network.parameters() if all(weight is not other for other in matrices)]
        self.optimizers: list[torch.optim.Optimizer] = [
            torch.optim.Muon(matrices, lr=plan.rate, weight_decay=0.1, adjust_lr_fn="match_rms_adamw"),
            torch.optim.AdamW(others, lr=plan.rate, betas=(0.9, 0.98), weight_decay=0.0, fused=True),
        ]

    def advance(self) -> tuple[float, int]:
        """One step. Returns the loss per learnt token and the number of tokens read."""
        parts = list(batches(self.tokenizer, self.plan, self.step, self.source))
        learnt = sum(len(part.targets) for part in parts)
        total = 0.0
        for part in parts:
            loss = F.cross_entropy(self.network(part.ids, part.wanted), part.targets, reduction="sum") / learnt
            loss.backward()
            total += loss.item()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate_at(self.plan, self.step)
            optimizer.step()
            optimizer.zero_grad()
        self.step += 1
        return total, sum(part.ids.numel() for part in parts)

    def save(self, file: Path) -> None:
        state = {
            "step": self.step,
            "plan": asdict(self.plan),
            "shape": self.network.shape.as_config(),
            "network": self.network.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
        }
        unfinished = file.with_suffix(".part")
        torch.save(state, unfinished)
        unfinished.rename(file)

    def load(self, file: Path) -> None:
        """Go on from there. Only the number of steps may differ from the plan that was begun: ValueError otherwise."""
        state = torch.load(file, weights_only=True)
        begun = (state["shape"], {**state["plan"], "steps": 0})
        asked = (self.network.shape.as_config(), {**asdict(self.plan), "steps": 0})
        if begun != asked:
            raise ValueError(f"{file} was begun as {begun}, not as {asked}: give another --work, or remove it")
        self.step = state["step"]
        self.network.load_state_dict(state["network"])
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)


def train(
    tokenizer: Any,
    plan: Plan,
    checkpoint: Path,
    shape: Shape | None = None,
) -> Nano:
    """Train to the plan's end, from `checkpoint` where there is one."""
    torch.set_num_threads(plan.threads)
    trainer = Trainer(tokenizer, shape or Shape(tokenizer.get_vocab_size()), plan)
    if checkpoint.exists():
        trainer.load(checkpoint)
    begun, tokens, losses = time.monotonic(), 0, []
    while trainer.step < plan.steps:
        loss, read = trainer.advance()
        tokens += read
        losses.append(loss)
        if trainer.step % 50 == 0 or trainer.step == plan.steps:
            seconds = time.monotonic() - begun
            say(step=trainer.step, loss=round(sum(losses) / len(losses), 4), tokens_per_s=int(tokens / seconds))
            begun, tokens, losses = time.monotonic(), 0, []
        if trainer.step % plan.keep_every == 0 or trainer.step == plan.steps:
            trainer.save(checkpoint)
    return trainer.network


def say(**facts: Any) -> None:
    sys.stderr.write(json.dumps(facts) + "\n")
    sys.stderr.flush()


def in_fast_environment() -> None:
    """Start this program again under ENVIRONMENT, which glibc reads only at its start."""
    if ENVIRONMENT.items() <= os.environ.items():
        return
    os.execve(sys.executable, sys.orig_argv, {**os.environ, **ENVIRONMENT})  # noqa: S606 - this very program
