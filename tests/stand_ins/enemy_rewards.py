"""Reward functions that do what they should not, one name each; `good` behaves."""

from __future__ import annotations

import ctypes
import os
import sys
import threading
import time
from typing import Any

from moorage.rewards.sample import Sample, Score

__all__ = [
    "bad_info",
    "closes_everything",
    "dies",
    "eats_memory",
    "endless_info",
    "exits",
    "good",
    "hangs",
    "infinite",
    "leaves_a_child",
    "loops",
    "not_a_number",
    "nothing",
    "prints_much",
    "raises",
    "raises_the_unsayable",
    "reads_orders",
    "recurses",
    "segfaults",
    "text",
]


def good(sample: Sample) -> Score:
    """Answers with who it is."""
    return Score(len(sample.text), {"pid": os.getpid()})


def loops(sample: Sample) -> float:
    while True:
        pass


def hangs(sample: Sample) -> float:
    time.sleep(1e6)
    return 1.0


def raises(sample: Sample) -> float:
    raise ValueError("wrong \ud800 " + "x" * 10_000)


class Unsayable(Exception):
    """Holds what cannot be sent anywhere, and has no text."""

    def __init__(self) -> None:
        super().__init__(threading.Lock(), lambda: None)

    def __str__(self) -> str:
        raise RuntimeError("not even this")


def raises_the_unsayable(sample: Sample) -> float:
    raise Unsayable


def exits(sample: Sample) -> float:
    sys.exit(0)


def dies(sample: Sample) -> float:
    os._exit(3)


def segfaults(sample: Sample) -> float:
    return float(ctypes.string_at(0)[0])


def recurses(sample: Sample) -> float:
    return recurses(sample)


def eats_memory(sample: Sample) -> float:
    return float(len(bytearray(1 << 40)))


def not_a_number(sample: Sample) -> float:
    return float("nan")


def infinite(sample: Sample) -> float:
    return float("inf")


def text(sample: Sample) -> Any:
    return "1.0"


def nothing(sample: Sample) -> Any:
    return None


def bad_info(sample: Sample) -> Any:
    return Score(1.0, ["no", "object"])  # type: ignore[arg-type]


def endless_info(sample: Sample) -> Any:
    return Score(1.0, {"text": "x" * (1 << 24)})


def prints_much(sample: Sample) -> float:
    for _ in range(64):
        sys.stdout.write("x" * (1 << 20) + "\n")
        sys.stderr.write("y" * (1 << 20) + "\n")
    os.write(1, b'{"id": 0, "reward": 99.0}\n')
    return 1.0


def reads_orders(sample: Sample) -> float:
    return float(len(sys.stdin.read()) + len(os.read(0, 1 << 20)))


def closes_everything(sample: Sample) -> float:
    os.closerange(0, 256)
    return 1.0


def leaves_a_child(sample: Sample) -> float:
    """Dies, while a process that it started holds its pipes."""
    if os.fork() == 0:
        time.sleep(600)
    os._exit(0)
