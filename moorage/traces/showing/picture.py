"""A trajectory on a terminal: prompts, sampled tokens shaded by their probability, boundaries, branches as a tree."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from moorage.traces.showing.call_view import CallView, boundary_words
from moorage.traces.showing.data import ShownTrace, template_is_its
from moorage.traces.showing.pieces import Piece, pieces_of, plain, runs_of
from moorage.traces.showing.tones import FOLDED, GUTTER, MARK, SPECIAL, STEPS, VERDICTS, sampled_style
from moorage.traces.words import named, when

if TYPE_CHECKING:
    from moorage.engines.rendering.tokenizer import Tokenizer

__all__ = ["HowShown", "picture"]

BAR = 12
LEAST_FOLDED = 8
HEAD_SHARE = 0.6
"""Of the tokens that a folded prompt shows, those at its beginning."""


class HowShown(msgspec.Struct, frozen=True, kw_only=True):
    """What was asked for."""

    tokenizer: Tokenizer | None = None
    call: int | None = None
    """Only this one, its whole prompt unfolded."""
    logprobs: bool = False
    fold: int = 96
    """Longer runs of prompt are folded to so many tokens; 0: none is."""


def picture(trace: ShownTrace, how: HowShown) -> RenderableType:
    """The whole trajectory, or one call of it."""
    head = _head(trace, how)
    if how.call is not None:
        return Group(head, Text(), *_call(trace, how.call, how, whole=True))
    if not trace.calls:
        return Group(head, Text("no call is recorded", style="dim"))
    tree = Tree(head, guide_style="dim")
    places: dict[int, Tree] = {}
    for node in trace.tree.nodes():
        start = trace.starts[node.seq]
        above = tree
        if start != node.seq:
            above = places[start]
        elif node.parent is not None:
            above = places[node.parent.seq]
        places[node.seq] = above.add(Group(*_call(trace, node.seq, how, whole=False)))
    return tree


def _head(trace: ShownTrace, how: HowShown) -> Text:
    trajectory, calls = trace.trajectory, trace.calls
    text = Text()
    text.append(f"{trajectory.kind} ", "dim")
    text.append(trajectory.uid, "bold")
    text.append(f"  {trajectory.state} · channel {trajectory.channel or 'train'} · {when(trajectory.created_at)}\n")
    prompt, sampled = sum(len(c.record.delta) for c in calls) // 4, sum(len(c.record.completion) for c in calls) // 4
    verdicts = {name: sum(c.record.verdict == name for c in calls) for name in VERDICTS}
    text.append(f"{len(calls)} calls: {prompt} prompt tokens, {sampled} sampled · boundaries: {named(verdicts)}\n")
    text.append("sampled with p ", "dim")
    for bound, style in STEPS:
        text.append(f" ≥ {bound:g} " if bound else " less ", style)
    text.append("   special", SPECIAL)
    text.append("  · space  ↵ line end", MARK)
    if how.tokenizer is None:
        text.append("\nids alone: --tokenizer-path DIR shows their text", "yellow")
    elif template_is_its(trace, how.tokenizer) is False:
        text.append("\nthis tokenizer's template is not the one that these prompts were rendered with", "bold red")
    return text


def _call(trace: ShownTrace, seq: int, how: HowShown, *, whole: bool) -> list[RenderableType]:
    view = trace.view(seq)
    parts: list[RenderableType] = [_title(view, trace.again.get(seq)), _tokens(view, how, whole=whole)]
    if how.logprobs and view.sampled:
        parts.append(_logprobs(view, how))
    return parts


def _title(view: CallView, same_as: int | None) -> Text:
    """`same_as`: the earlier call that was given the same prompt."""
    record, call = view.call.record, view.call
    sign, style = VERDICTS[record.verdict]
    text = Text()
    text.append(f"call {call.seq} ", "bold")
    text.append(f"{sign} {record.verdict}", style)
    text.append(f" ({record.reason})" if record.reason else "", style)
    text.append(f"  {boundary_words(view.node)}")
    if same_as is not None:
        text.append(f", as call {same_as}: another sample", "cyan")
    for apart, said in (
        (not record.delivered, "undelivered"),
        (call.late, "late"),
        (record.source != "model", record.source),
    ):
        if apart:
            text.append(f"  {said}", "bold red")
    return text


def _tokens(view: CallView, how: HowShown, *, whole: bool) -> Table:
    grid = Table.grid(padding=(0, 1, 0, 0), expand=False)
    grid.add_column(justify="right", style=GUTTER, no_wrap=True, width=9)
    grid.add_column(overflow="fold")
    if whole and view.kept:
        grid.add_row("kept │", _plain(view.kept, how, fold=False))
    if view.delta or not view.kept:
        grid.add_row("prompt │", _plain(view.delta, how, fold=not whole))
    grid.add_row("sampled │", _sampled(view, how))
    grid.add_row("", _footer(view))
    return grid


def _plain(ids: Sequence[int], how: HowShown, *, fold: bool) -> Text:
    text = Text()
    pieces = pieces_of(ids, how.tokenizer)
    if not fold or not how.fold or len(ids) <= how.fold + LEAST_FOLDED:
        _append(text, pieces)
        text.rstrip()  # the sign of the last line's end says it
        return text
    first = round(how.fold * HEAD_SHARE)
    last = len(ids) - (how.fold - first)
    _append(text, [piece for piece in pieces if piece.start < first])
    text.append(f" ⋯ {last - first} tokens ⋯ ", FOLDED)
    _append(text, [piece for piece in pieces if piece.start >= last])
    text.rstrip()
    return text


def _append(text: Text, pieces: Sequence[Piece]) -> None:
    for piece in pieces:
        _append_piece(text, piece, "")


def _append_piece(text: Text, piece: Piece, style: str) -> None:
    if piece.kind == "id":
        text.append(piece.text, style)
        text.append(" ")
        return
    special = f"{style} bold underline" if style else SPECIAL
    for run in runs_of(piece.text):
        shown = special if piece.kind == "special" else f"{style} {MARK}".strip() if run.mark else style
        body, end, rest = run.text.partition("\n")  # the shade ends with the line
        text.append(body, shown)
        text.append(end + rest)


def _sampled(view: CallView, how: HowShown) -> Text:
    text = Text()
    probabilities = view.probabilities
    for piece in pieces_of(view.sampled, how.tokenizer):
        known = None if probabilities is None else min(probabilities[piece.start : piece.start + piece.count])
        _append_piece(text, piece, sampled_style(known))
    if not view.sampled:
        text.append("nothing", "dim")
    text.rstrip()
    return text


def _footer(view: CallView) -> Text:
    record = view.call.record
    said = [f"{view.node.prompt_tokens} + {len(view.sampled)} tokens"]
    if record.finish_reason:
        said.append(plain(record.finish_reason))
    probabilities = view.probabilities
    if probabilities:
        said.append(f"p {sum(probabilities) / len(probabilities):.2f}, least {min(probabilities):.2g}")
    elif view.sampled:
        said.append("no log probabilities")
    said += [record.mode, f"weights {record.policy_version}"]
    if view.call.reward is not None:
        said.append(f"reward {view.call.reward:g}")
    return Text(" · ".join([*said, when(record.created_at)[11:]]), style="dim")


def _logprobs(view: CallView, how: HowShown) -> Table:
    grid = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    for name in ("", "id", "logprob", "p"):
        grid.add_column(name, justify="right", no_wrap=True)
    grid.add_column("token")
    grid.add_column("")
    probabilities = view.probabilities
    for piece in pieces_of(view.sampled, how.tokenizer):
        for at in range(piece.start, piece.start + piece.count):
            token = Text()
            if at == piece.start:
                _append_piece(token, piece, sampled_style(None if probabilities is None else probabilities[at]))
                token.rstrip()
            logprob = "?" if view.logprobs is None else f"{view.logprobs[at]:.4f}"
            p = "?" if probabilities is None else f"{probabilities[at]:.3f}"
            bar = "" if probabilities is None else "▇" * round(BAR * probabilities[at])
            grid.add_row(str(at), str(view.sampled[at]), logprob, p, token, Text(bar, "dim"))
    return grid
