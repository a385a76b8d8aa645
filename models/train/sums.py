"""Sums as nano learns them: which are held out, what they give, and the column work that leads there. Pure."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from random import Random

COLUMNS = ("ones", "tens", "hundreds", "thousands")
HELD_OUT_PART = 10
"""One unordered pair in this many is never trained, under any operator; pairs of single digits always are."""

RIGHT_SHARE = 0.55
LAST_RIGHT_SHARE = 0.3
"""Of the three-digit sums in the training data, the share that is right; the rest has a slip in one column, on purpose:
what the model does at temperature 1 then stays improvable, for demonstrations of reinforcement learning."""


@dataclass(frozen=True)
class Sum:
    """`a op b`; `a` may be negative (the result so far), `b` never is."""

    a: int
    op: str
    b: int

    @property
    def result(self) -> int:
        if self.op == "*":
            return self.a * self.b
        return self.a + self.b if self.op == "+" else self.a - self.b

    @property
    def has_three_digits(self) -> bool:
        """Whether it is one of the sums that are learnt only in part."""
        return self.op == "+" and self.a > 99 and self.b > 99

    def __str__(self) -> str:
        return f"{self.a}{self.op}{self.b}"


@dataclass(frozen=True)
class Work:
    """What the model writes: the lines inside `<think>` and the result they lead to."""

    lines: tuple[str, ...]
    result: int


def is_held_out(a: int, b: int) -> bool:
    low, high = sorted((a, b))
    if low >= 0 and high <= 9:
        return False
    return zlib.crc32(f"{low},{high}".encode()) % HELD_OUT_PART == 0


def draw_sum(random: Random, ops: str = "+-", *, held_out: bool = False, largest: int = 99) -> Sum:
    """Two numbers from 0 to `largest`; a sixth of the trained ones are of single digits."""
    while True:
        top = 9 if not held_out and random.random() < 1 / 6 else largest
        drawn = Sum(random.randint(0, top), random.choice(ops), random.randint(0, top))
        if is_held_out(drawn.a, drawn.b) == held_out:
            return drawn


def draw_three_digits(random: Random, *, held_out: bool = False) -> Sum:
    while True:
        drawn = Sum(random.randint(100, 999), "+", random.randint(100, 999))
        if is_held_out(drawn.a, drawn.b) == held_out:
            return drawn


def draw_next(random: Random, so_far: int, *, held_out: bool = False) -> Sum | None:
    """The sum of a follow-up ("and plus 3?"); None when no number was found that may be used."""
    for _ in range(200):
        drawn = Sum(so_far, random.choice("+-"), random.randint(1, 20 if random.random() < 0.7 else 99))
        if is_held_out(drawn.a, drawn.b) == held_out:
            return drawn
    return None


def work_out(question: Sum, slip: Random | None = None) -> Work:
    """The column work of a sum or difference. `slip`: go wrong by one in a column that it chooses."""
    a, op, b = question.a, question.op, question.b
    if a < 0 and op == "+":
        turned = work_out(Sum(b, "-", -a))
        return Work((f"{b}-{-a}", *turned.lines), turned.result)
    if a < 0:
        turned = work_out(Sum(-a, "+", b))
        return Work((f"-({-a}+{b})", *turned.lines), -turned.result)
    if op == "+":
        return _add(a, b, slip)
    if a < b:
        turned = work_out(Sum(b, "-", a))
        return Work((f"{a}<{b} so -({b}-{a})", *turned.lines), -turned.result)
    return _subtract(a, b)


def _add(a: int, b: int, slip: Random | None) -> Work:
    pairs = _columns(a, b)
    wrong = slip.randrange(len(pairs)) if slip else None
    lines, carry, result = [], 0, 0
    for place, (x, y) in enumerate(pairs):
        total = x + y + carry
        if slip and place == wrong:
            total = total + 1 if total == 0 or (total < 19 and slip.random() < 0.5) else total - 1
        last = place == len(pairs) - 1
        line = f"{COLUMNS[place]} {x}+{y}{'+1' if carry else ''}={total}"
        carry = total // 10
        lines.append(line + (" carry 1" if carry and not last else ""))
        result += (total if last else total % 10) * 10**place
    return Work(tuple(lines), result)


def _subtract(a: int, b: int) -> Work:
    lines, borrow, result = [], 0, 0
    for place, (x, y) in enumerate(_columns(a, b)):
        short = x - borrow < y
        digit = x + 10 * short - y - borrow
        line = f"{COLUMNS[place]} {x + 10 * short}-{y}{'-1' if borrow else ''}={digit}"
        lines.append(line + (" borrow 1" if short else ""))
        borrow = int(short)
        result += digit * 10**place
    return Work(tuple(lines), result)


def _columns(a: int, b: int) -> list[tuple[int, int]]:
    """The digits of both, ones first."""
    width = max(len(str(a)), len(str(b)))
    return [(a // 10**place % 10, b // 10**place % 10) for place in range(width)]
