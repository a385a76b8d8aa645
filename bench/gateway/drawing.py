"""CPU a request as bars beside nginx's, on a scale of powers of ten: the stacks are three of them apart."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from xml.sax.saxutils import escape

from bench.gateway.measuring import CaseResult

__all__ = ["draw_cases"]

LABEL_WIDTH, BAR_WIDTH, VALUE_WIDTH, ROW_HEIGHT = 190, 480, 170, 24
COLOURS = {"moorage": "#2a6fb0", "nginx": "#9a9a9a"}
OTHER_COLOUR = "#d08a3c"


def draw_cases(cases: Sequence[CaseResult]) -> str:
    """An SVG; stacks whose CPU was not counted are left out."""
    drawn = [(case, [name for name in case.reports if case.cpu_us(name)]) for case in cases]
    drawn = [(case, names) for case, names in drawn if names]
    rows = sum(len(names) + 2 for _, names in drawn)
    width, height = LABEL_WIDTH + BAR_WIDTH + VALUE_WIDTH, ROW_HEIGHT * (rows + 2)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" font-family="sans-serif" '
        'font-size="13">',
        '<rect width="100%" height="100%" fill="white"/>',
        '<text x="12" y="20" font-weight="bold">CPU a request, in microseconds (times nginx, same rounds)</text>',
    ]
    y = ROW_HEIGHT * 2
    for case, names in drawn:
        parts.append(f'<text x="12" y="{y}" font-weight="bold">{escape(case.title)}</text>')
        for name in names:
            y += ROW_HEIGHT
            parts += _bar(case, name, y)
        y += ROW_HEIGHT * 2
    return "\n".join([*parts, "</svg>", ""])


def _bar(case: CaseResult, name: str, y: int) -> list[str]:
    value = statistics.median(case.cpu_us(name))
    length = BAR_WIDTH * min(max(math.log10(max(value, 10.0)) - 1.0, 0.02) / 4.0, 1.0)
    ratio = f" ({case.cpu_ratio(name, 'nginx'):.1f} x)" if "nginx" in case.reports and name != "nginx" else ""
    colour = next((found for start, found in COLOURS.items() if name.startswith(start)), OTHER_COLOUR)
    return [
        f'<text x="24" y="{y}">{escape(name)}</text>',
        f'<rect x="{LABEL_WIDTH}" y="{y - 13}" width="{length:.1f}" height="16" fill="{colour}"/>',
        f'<text x="{LABEL_WIDTH + length + 8:.1f}" y="{y}">{value:.0f}{ratio}</text>',
    ]
