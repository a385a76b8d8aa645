"""Colours. Probabilities go from pale to dark along one scale, which also reads in grey and to the colour-blind."""

from __future__ import annotations

__all__ = ["FOLDED", "GUTTER", "MARK", "SPECIAL", "STEPS", "VERDICTS", "sampled_style"]

STEPS = (
    (0.95, "black on #ffffcc"),
    (0.75, "black on #ffeda0"),
    (0.5, "black on #fed976"),
    (0.25, "black on #feb24c"),
    (0.1, "black on #fc6d33"),
    (0.0, "white on #b10026"),
)
"""Lower bound of a probability, and how a token of at least that is shown."""

UNKNOWN = "black on #c6d4e1"
"""A sampled token whose probability is not known."""

SPECIAL = "bold magenta"
MARK = "dim"
FOLDED = "italic cyan"
GUTTER = "dim"
VERDICTS = {"root": ("●", "bold blue"), "exact": ("→", "bold green"), "branch": ("≠", "bold dark_orange")}


def sampled_style(probability: float | None) -> str:
    """None: not known."""
    if probability is None:
        return UNKNOWN
    return next((style for bound, style in STEPS if probability >= bound), STEPS[-1][1])
