"""The report of `moor template check`, for people: the verdict, the sessions, and each finding with its example."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

__all__ = ["told", "visible"]

BEFORE, AFTER = 48, 36
"""How many characters of a text are shown before the place where it parts, and from there on."""
IDS_BEFORE, IDS_AFTER = 4, 6
MARKS = {
    "none": "kept",
    "render": "slower",
    "branch": "branch",
    "refused": "refused",
    "every_turn": "every turn",
    "passthrough": "engine",
}
COLOURS = {"exact": "green", "exact with branches": "yellow", "engine": "red"}
EFFECT_COLOURS = {"none": "green", "render": "yellow", "branch": "yellow", "refused": "magenta"}


def told(data: dict[str, Any]) -> Iterator[str]:
    """The lines. Colours are used on a terminal only; the place where two texts part is marked in any case."""
    import io

    from rich.console import Console

    real = Console()
    page = io.StringIO()
    console = Console(
        file=page,
        force_terminal=real.is_terminal,
        width=max(60, min(real.width, 120)) if real.is_terminal else 110,
        color_system="standard" if real.is_terminal and not real.no_color else None,
        highlight=False,
        markup=False,
        emoji=False,
    )
    _print(console, data)
    yield from page.getvalue().rstrip("\n").split("\n")


def visible(text: str) -> str:
    """One line: line ends, other control characters and what would move the cursor are shown as escapes."""
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape", "replace").decode() for letter in text
    )


def _print(console: Any, data: dict[str, Any]) -> None:
    from rich.text import Text

    verdict = data["verdict"]
    console.print(Text.assemble((verdict.upper(), f"bold {COLOURS[verdict]}"), "  ", data["path"]))
    console.print(data["summary"])
    console.print()
    console.print(_sessions(data["sessions"]))
    console.print()
    if not data["findings"]:
        console.print("Nothing else was found.")
        return
    console.print(_findings(data["findings"]))
    for finding in data["findings"]:
        console.print()
        _finding(console, finding)


def _sessions(rows: list[dict[str, Any]]) -> Any:
    from rich.table import Table

    table = Table("session", "its requests, as they were planned", box=None, pad_edge=False, header_style="bold")
    for row in rows:
        table.add_row(row["name"], _turns(row["turns"]))
    return table


def _turns(turns: list[dict[str, Any]]) -> Any:
    from rich.text import Text

    text = Text()
    for number, turn in enumerate(turns):
        said = turn["verdict"] + (f" ({turn['reason']})" if turn["reason"] else "")
        text.append(" > " if number else "")
        text.append(said, {"exact": "green", "branch": "yellow", "refused": "magenta"}.get(turn["verdict"], ""))
    return text


def _findings(findings: list[dict[str, Any]]) -> Any:
    from rich.table import Table
    from rich.text import Text

    table = Table("code", "session", "what it is", box=None, pad_edge=False, header_style="bold")
    for finding in findings:
        mark = Text(MARKS[finding["effect"]], EFFECT_COLOURS.get(finding["effect"], "red"))
        table.add_row(finding["code"], mark, _short(finding["title"]))
    return table


def _finding(console: Any, finding: dict[str, Any]) -> None:
    from rich.text import Text

    console.print(Text(finding["code"], f"bold {EFFECT_COLOURS.get(finding['effect'], 'red')}"))
    console.print(f"  {visible(finding['title'])}")
    if finding["example"] is not None:
        _example(console, finding["example"])
    console.print(Text.assemble(("  a session  ", "bold"), visible(finding["does"])))
    for outcome in finding["outcomes"]:
        said = outcome["verdict"] + (f" ({outcome['reason']})" if outcome["reason"] else "")
        console.print(Text.assemble("    ", outcome["case"], " → ", (said, "cyan")))
    console.print(Text.assemble(("  advice     ", "bold"), finding["advice"]))


def _example(console: Any, example: dict[str, Any]) -> None:
    """Both texts around the place where they part, which is marked below by a caret."""
    from rich.cells import cell_len
    from rich.text import Text

    for side in (example["left"], example["right"]):
        console.print(Text(f"    {side['label']}", "dim"))
        before, after = _shown(side["text"], example["character"])
        console.print(Text.assemble("      ", before, (after, "reverse" if after else "")), no_wrap=True, crop=False)
        if example["character"] is not None:
            console.print(Text(f"      {' ' * cell_len(before)}^", "bold"), no_wrap=True, crop=False)
        console.print(Text(f"      ids {_ids(side['ids'], example['token'])}", "dim"), no_wrap=True, crop=False)


def _shown(text: str, at: int | None) -> tuple[str, str]:
    """What stands before the place, and from it on; control characters as they are written in JSON."""
    if at is None:
        return visible(text[-(BEFORE + AFTER) :]), ""
    before = ("…" if at > BEFORE else "") + visible(text[max(0, at - BEFORE) : at])
    after = visible(text[at : at + AFTER]) + ("…" if len(text) > at + AFTER else "")
    return before, after or "(end)"


def _ids(ids: list[int], at: int | None) -> str:
    if at is None:
        return f"[{len(ids)}] the same"
    first = max(0, at - IDS_BEFORE)
    before = " ".join(map(str, ids[first:at]))
    after = " ".join(map(str, ids[at : at + IDS_AFTER])) or "(end)"
    dots = "… " if first else ""
    return f"[{len(ids)}] {dots}{before} | {after}{' …' if len(ids) > at + IDS_AFTER else ''}"


def _short(title: str) -> str:
    head = visible(title.split(": ")[0])
    return head if head.endswith(".") else head + "."
