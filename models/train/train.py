"""Training: batches by the step's number, so that a run that was cut off goes on as if it had not been."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - the usual name

from models.train.chat import Conversation, write
from models.train.data import Mix, conversations
from models.train.model import Nano, Shape

ALLOCATOR = {"MALLOC_MMAP_THRESHOLD_": "4000000000", "MALLOC_TRIM_THRESHOLD_": "16000000000"}
"""Without these glibc gives every large tensor back to the system and asks for it again: four times slower."""


@dataclass(frozen=True)
class Plan:
    """A run. `batch`: conversations a step; `parts`: how many groups of like length a batch is cut into."""

    steps: int = 5000
    batch: int = 128
    parts: int = 4
    seed: int = 17
    rate: float = 3e-3
    warm_up: int = 100
    decay: float = 0.3
    keep_every: int = 250
    threads: int = 2


@dataclass(frozen=True)
class Batch:
    """`ids` [B, S] padded at the end, `wanted` [B, S] true where the next token is learnt, `targets` [N]."""

    ids: Tensor
    wanted: Tensor
    targets: Tensor


def rate_at(plan: Plan, step: int) -> float:
    """Up, level, then down to nothing over the last part, all linear."""
    falling = max(1.0, plan.decay * plan.steps)
    return plan.rate * min(1.0, (step + 1) / plan.warm_up, (plan.steps - step) / falling)


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


def batches(tokenizer: Any, plan: Plan, step: int, mix: Mix | None = None) -> Iterator[Batch]:
    """The parts of one step's batch, short conversations first."""
    rows = encode(tokenizer, list(islice(conversations(plan.seed * 1_000_000 + step, mix), plan.batch)))
    rows.sort(key=lambda row: len(row[0]))
    share = -(-len(rows) // plan.parts)
    for start in range(0, len(rows), share):
        part = rows[start : start + share]
        ids = torch.zeros(len(part), max(len(row) for row, _ in part), dtype=torch.long)
        learnt = torch.zeros_like(ids, dtype=torch.bool)
        for place, (row, marks) in enumerate(part):
            ids[place, : len(row)] = torch.tensor(row)
            learnt[place, : len(row)] = torch.tensor(marks)
        yield Batch(ids[:, :-1], learnt[:, 1:], ids[:, 1:][learnt[:, 1:]])


class Trainer:
    """A network, its optimizers and the step it is at. Matrices are moved by Muon, the rest by AdamW."""

    def __init__(self, tokenizer: Any, shape: Shape, plan: Plan, mix: Mix | None = None) -> None:
        torch.manual_seed(plan.seed)
        self.tokenizer, self.plan, self.mix, self.step = tokenizer, plan, mix, 0
        self.network = Nano(shape)
        matrices = [weight for weight in self.network.model.layers.parameters() if weight.dim() == 2]
        others = [weight for weight in self.network.parameters() if all(weight is not other for other in matrices)]
        self.optimizers: list[torch.optim.Optimizer] = [
            torch.optim.Muon(matrices, lr=plan.rate, weight_decay=0.1, adjust_lr_fn="match_rms_adamw"),
            torch.optim.AdamW(others, lr=plan.rate, betas=(0.9, 0.98), weight_decay=0.0, fused=True),
        ]

    def advance(self) -> tuple[float, int]:
        """One step. Returns the loss per learnt token and the number of tokens read."""
        parts = list(batches(self.tokenizer, self.plan, self.step, self.mix))
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
        state = torch.load(file, weights_only=True)
        self.step = state["step"]
        self.network.load_state_dict(state["network"])
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)


def train(
    tokenizer: Any,
    plan: Plan,
    checkpoint: Path,
    shape: Shape | None = None,
    mix: Mix | None = None,
    look: Callable[[Trainer], None] | None = None,
) -> Nano:
    """Train to the plan's end, from `checkpoint` where there is one. `look` is called whenever it is written."""
    torch.set_num_threads(plan.threads)
    trainer = Trainer(tokenizer, shape or Shape(tokenizer.get_vocab_size()), plan, mix)
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
            if look:
                look(trainer)
    return trainer.network


def say(**facts: Any) -> None:
    sys.stderr.write(json.dumps(facts) + "\n")
    sys.stderr.flush()


def with_fast_allocator() -> None:
    """Start this program again under ALLOCATOR, which glibc reads only at its start."""
    if ALLOCATOR.items() <= os.environ.items():
        return
    os.execve(sys.executable, sys.orig_argv, {**os.environ, **ALLOCATOR})  # noqa: S606 - this very program
