"""What a measurement gives, as a table and as a picture."""

from __future__ import annotations

import statistics
from dataclasses import asdict, dataclass, field
from typing import Any
from xml.sax.saxutils import escape

BAR_WIDTH, ROW_HEIGHT, LABEL_WIDTH = 420, 30, 330


@dataclass(frozen=True, slots=True)
class Row:
    """One measured thing."""

    label: str
    value: float
    unit: str
    ratio: float | None = None
    """To the reference of the same round, median over the rounds; None for the reference itself and for counts."""


@dataclass(frozen=True, slots=True)
class Result:
    """A measurement: rows to show, and the figures that a gate looks at, by name."""

    title: str
    rows: list[Row]
    figures: dict[str, float] = field(default_factory=dict)

    def as_data(self) -> dict[str, Any]:
        return asdict(self)


def median(values: list[float]) -> float:
    return statistics.median(values)


def median_ratio(values: list[float], references: list[float]) -> float:
    """The median of the ratios taken round by round, so that a slow moment of the machine cancels out."""
    return statistics.median(value / reference for value, reference in zip(values, references, strict=True))


def print_table(result: Result) -> str:
    lines = [result.title, ""]
    width = max(len(row.label) for row in result.rows)
    for row in result.rows:
        ratio = f"   {row.ratio:6.2f} x" if row.ratio is not None else ""
        lines.append(f"  {row.label.ljust(width)}  {row.value:10.2f} {row.unit:<6}{ratio}")
    return "\n".join(lines)


def draw_svg(result: Result) -> str:
    """Horizontal bars, one a row."""
    longest = max(row.value for row in result.rows) or 1.0
    height = ROW_HEIGHT * (len(result.rows) + 2)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{LABEL_WIDTH + BAR_WIDTH + 170}" height="{height}" '
        'font-family="sans-serif" font-size="13">',
        '<rect width="100%" height="100%" fill="white"/>',
        f'<text x="12" y="22" font-weight="bold">{escape(result.title)}</text>',
    ]
    for index, row in enumerate(result.rows):
        y = ROW_HEIGHT * (index + 1) + 12
        length = BAR_WIDTH * row.value / longest
        shown = f"{row.value:.1f} {row.unit}" + (f"  ({row.ratio:.2f} x)" if row.ratio is not None else "")
        parts += [
            f'<text x="12" y="{y + 15}">{escape(row.label)}</text>',
            f'<rect x="{LABEL_WIDTH}" y="{y}" width="{length:.1f}" height="20" fill="#4878a8"/>',
            f'<text x="{LABEL_WIDTH + length + 8:.1f}" y="{y + 15}">{escape(shown)}</text>',
        ]
    return "\n".join([*parts, "</svg>", ""])
