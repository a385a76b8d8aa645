"""Finding the answer in what a model wrote. Pure, and linear in the length of the text."""

from __future__ import annotations

from typing import Literal, get_args

__all__ = ["TAKES", "Take", "take_answer", "without_thinking"]

Take = Literal["auto", "whole", "last_line", "after", "boxed", "tag"]
TAKES: tuple[str, ...] = get_args(Take)
"""auto: `boxed`, else `after`, else `tag`, whichever is there, else the whole text."""

MARK = "####"
"""GSM8K's."""


def without_thinking(text: str) -> str:
    """What follows the last `</think>`; a thought that was never closed is all there is."""
    return text.rpartition("</think>")[2]


def take_answer(text: str, take: Take, mark: str = MARK) -> str | None:
    """The answer, without the blanks around it; None: the text has none of that form."""
    if take == "whole":
        return text.strip()
    if take == "last_line":
        return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), None)
    if take == "after":
        return _after(text, mark)
    if take == "boxed":
        return _boxed(text)
    if take == "tag":
        return _tagged(text)
    found = (_boxed(text), _after(text, mark), _tagged(text))
    return next((answer for answer in found if answer is not None), text.strip())


def _after(text: str, mark: str) -> str | None:
    """The rest of the line after the last mark."""
    _, found, rest = text.rpartition(mark)
    return rest.strip().partition("\n")[0].strip() if found else None


def _boxed(text: str) -> str | None:
    r"""What the last `\boxed{…}` holds; one that is not closed is none."""
    begin = text.rfind("\\boxed{")
    if begin < 0:
        return None
    depth = 0
    for at in range(begin + len("\\boxed"), len(text)):
        depth += (text[at] == "{") - (text[at] == "}")
        if depth == 0:
            return text[begin + len("\\boxed{") : at].strip()
    return None


def _tagged(text: str) -> str | None:
    """What stands between the last `<answer>` and its `</answer>`."""
    begin = text.rfind("<answer>")
    if begin < 0:
        return None
    inside, found, _ = text[begin + len("<answer>") :].partition("</answer>")
    return inside.strip() if found else None
