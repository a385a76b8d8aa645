"""Where a picture is drawn: as text for a terminal or a pipe, or as an SVG file."""

from __future__ import annotations

import io
import re

from rich.console import Console, RenderableType

__all__ = ["as_svg", "as_text"]

SVG_WIDTH = 110


def as_text(shown: RenderableType, *, width: int, colour: bool) -> str:
    """`width`: columns. `colour`: for a terminal; otherwise the text holds no escape sequence at all."""
    paper = io.StringIO()
    kind = None if colour else "none"
    console = Console(
        file=paper,
        width=width,
        force_terminal=colour,
        color_system="auto" if kind is None else None,
        no_color=not colour,
        highlight=False,
        markup=False,
        emoji=False,
    )
    console.print(shown, soft_wrap=False)
    return "\n".join(line.rstrip() if not colour else line for line in paper.getvalue().splitlines())


def as_svg(shown: RenderableType, *, width: int | None, title: str) -> str:
    """A picture that needs nothing from elsewhere: the font is the viewer's."""
    console = Console(
        file=io.StringIO(),
        width=width or SVG_WIDTH,
        record=True,
        force_terminal=True,
        color_system="truecolor",
        highlight=False,
        markup=False,
        emoji=False,
    )
    console.print(shown)
    drawn = console.export_svg(title=title)
    return re.sub(r"@font-face \{.*?\}\n|<!-- Generated.*?-->", "", drawn, flags=re.DOTALL)
