"""Tails and prompts that need no render: what a template writes around texts, the same whatever they are.

A conversation's form (`moorage.engines.rendering.forms`) that comes again is rendered once over told texts
(`moorage.engines.rendering.trace`). The literal texts between them are then known, and encoded where nothing that
stands between can change how (`moorage.engines.rendering.borders`). That holds for every conversation of the form whose
texts give the same answers to what the template asks of them; any other one is rendered.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from moorage.capture.chain import digest
from moorage.capture.packing import ID_BYTES, pack_ids, unpack_ids
from moorage.engines.rendering.forms import form_of, told_message
from moorage.engines.rendering.sentinel import Scene, call_mark, content_mark
from moorage.engines.rendering.tail import has_calls
from moorage.engines.rendering.template import ChatTemplate, TemplateFault
from moorage.engines.rendering.tokenizer import Tokenizer
from moorage.engines.rendering.trace import OPERATIONS, Guard, Sealed, Step, Told, Trace, Untraceable
from moorage.engines.rendering.tracing import parts_of

__all__ = ["Question", "Shapes", "scene_key"]

MOST_FORMS = 512
"""How many are remembered; clients choose names, so there is no end to them."""

MOST_SHAPES = 4
"""Of one form: by what the template is answered about the texts."""

MOST_MESSAGES = 24
"""Longer conversations seldom have the form of another one."""

NOW, MARK = 0, 1
"""The first two values; the texts of the messages come after them."""

KEEPS_MARK = frozenset({"json", "lstrip", "rstrip", "strip"})
"""What can be done to a mark, of letters and digits, without changing it."""

Parts = tuple[str | int, ...]


class Question(msgspec.Struct, frozen=True):
    """A tail that is wanted: what stands after message `at`; or the whole prompt."""

    scene: Scene
    messages: Sequence[Mapping[str, Any]]
    at: int | None
    form: Any
    """Equal for conversations that differ in `values` alone."""
    values: list[Any]
    """The time, the mark, and the texts of the messages."""
    end_ids: frozenset[int]


class _Shape(msgspec.Struct, frozen=True):
    guards: tuple[Guard, ...]
    steps: tuple[Step, ...]
    """What is made of a question's values, in order; all that guards and pieces need."""
    pieces: tuple[bytes | Parts, ...]
    """[D] uint32 of literal texts, and the parts of texts that are to be encoded."""
    is_cut: bool
    """The tail begins at the first token that ends a turn."""


class Shapes:
    """For one template; learns while it serves."""

    def __init__(self, template: ChatTemplate, tokenizer: Tokenizer) -> None:
        self._template, self._tokenizer = template, tokenizer
        self._known: dict[Any, list[_Shape] | None] = {}
        """Form → its shapes; None: seen once; an empty list that stays empty: it cannot be traced."""
        self._tries: dict[Any, int] = {}
        self.trusted = template.prepare_told()
        """False: the template cannot be traced, or a shape was not what its own render is. None is used any more."""

    def question(
        self,
        scene: Scene,
        place: tuple[Any, ...] | None,
        messages: Sequence[Mapping[str, Any]],
        at: int | None,
        *,
        mark: str,
        end_ids: frozenset[int],
        escape: bool,
    ) -> Question | None:
        """None: the messages are of no form that shapes are made of. `place`: `scene_key(scene)`.

        `at` None: for the whole prompt; the mark is of no account then.
        """
        if place is None or not self.trusted or scene.continue_final or len(messages) > MOST_MESSAGES:
            return None
        values: list[Any] = [scene.now, mark]
        forms: list[Any] = [place, end_ids, at]
        for number, message in enumerate(messages):
            if number == at and not has_calls(message):
                forms.append("mark")
                continue
            form = form_of(message, values)
            if form is None:
                return None
            forms.append(form)
        if escape and self._has_special(values[2:]):
            return None
        return Question(scene, messages, at, tuple(forms), values, end_ids)

    def tail(self, asked: Question, encoded: dict[str, bytes]) -> bytes | None:
        """[D] uint32 of the tail, or the prompt, as a render gives it; None: that is not known.

        `encoded`: texts that were encoded for the same request already; more are put there.
        """
        for shape in self._known.get(asked.form) or ():
            values = asked.values
            if shape.steps:
                values = [*values]
                for step in shape.steps:
                    values.append(OPERATIONS[step.operation](values[step.source], *step.arguments))
            if not shape.guards or all(_answer(guard, values) == guard.answer for guard in shape.guards):
                return self._filled(shape, values, asked, encoded)
        return None

    def learn(self, asked: Question, ids: Sequence[int]) -> None:
        """A tail that was not known was rendered, as [D] `ids`; when its form comes again, it is traced."""
        if len(self._known) >= MOST_FORMS:
            self._known.clear()
            self._tries.clear()
        if asked.form not in self._known:
            self._known[asked.form] = None
            return
        tries = self._tries.get(asked.form, 0)
        if tries >= MOST_SHAPES:
            return
        self._tries[asked.form] = tries + 1
        shapes = self._known[asked.form] or []
        self._known[asked.form] = shapes
        try:
            shape = self._trace(asked)
        except (Untraceable, TemplateFault, RecursionError):
            return
        shapes.insert(0, shape)
        if self.tail(asked, {}) != pack_ids(ids):  # what is believed of templates and tokenizers here is wrong
            self.trusted = False
            self._known.clear()

    def _has_special(self, values: Sequence[Any]) -> bool:
        pattern = self._tokenizer.special_pattern
        return pattern is not None and any(isinstance(value, str) and pattern.search(value) for value in values)

    def _filled(self, shape: _Shape, values: list[Any], asked: Question, encoded: dict[str, bytes]) -> bytes | None:
        encode = self._tokenizer.encode if asked.at is not None else self._tokenizer.encode_whole
        packed = b""
        for piece in shape.pieces:
            if isinstance(piece, bytes):
                packed += piece
                continue
            text = "".join([part if isinstance(part, str) else values[part] for part in piece])
            ids = encoded.get(text)
            if ids is None:
                ids = encoded[text] = pack_ids(encode(text))
            packed += ids
        if asked.at is None:
            return packed
        if not shape.is_cut:
            return packed if packed and unpack_ids(packed[:ID_BYTES])[0] in self._tokenizer.atomic_ids else None
        tail = unpack_ids(packed)
        end = next((place for place, token_id in enumerate(tail) if token_id in asked.end_ids), None)
        return None if end is None else packed[end * ID_BYTES :]

    def _trace(self, asked: Question) -> _Shape:
        trace = Trace(asked.values)
        texts = iter([Told(trace, [number]) for number in range(MARK + 1, trace.given)])
        mark: Any = Told(trace, [MARK])
        told: list[dict[str, Any]] = []
        in_call = asked.at is not None and has_calls(asked.messages[asked.at])
        for number, message in enumerate(asked.messages):
            if number == asked.at and not in_call:
                told.append(content_mark(mark))
                continue
            form = told_message(message, texts, lambda text: Sealed(trace, trace.make(text.number, "arguments")))
            told.append(call_mark(form, mark) if number == asked.at else form)
        scene = asked.scene
        text = self._template.render_told(
            told,
            tools=scene.tools,
            add_generation_prompt=scene.add_generation_prompt,
            extra=scene.extra,
            strftime_now=lambda form: Told(trace, [trace.make(NOW, "strftime", _plain(form))]),
        )
        parts = parts_of(text)
        return self._shape(trace, parts if asked.at is None else _after_mark(trace, parts), asked.end_ids, in_call)

    def _shape(self, trace: Trace, parts: Parts, end_ids: frozenset[int], in_call: bool) -> _Shape:
        pieces = self._pieces(parts)
        is_cut = in_call
        if is_cut and isinstance(pieces[0], bytes):
            ids = unpack_ids(pieces[0])
            end = next((place for place, token_id in enumerate(ids) if token_id in end_ids), None)
            if end is None:
                raise Untraceable("the end of a call is not in the template's own text")
            pieces[0] = pieces[0][end * ID_BYTES :]
            is_cut = False
        return _pruned(trace, tuple(pieces), is_cut)

    def _pieces(self, parts: Parts) -> list[bytes | Parts]:
        """The texts that are always the same, encoded where that is proven, and the others."""
        tokenizer = self._tokenizer
        pieces: list[bytes | Parts] = []
        open_parts: list[str | int] = []
        for place, part in enumerate(parts):
            span = None
            if isinstance(part, str):
                span = tokenizer.fixed_span(part, begins=place == 0, ends=place == len(parts) - 1)
            if span is None or not isinstance(part, str):
                open_parts.append(part)
                continue
            first, last = span
            before = [*open_parts, *([part[:first]] if first else [])]
            pieces += [tuple(before)] if before else []
            pieces.append(pack_ids(tokenizer.encode(part[first:last])))
            open_parts = [part[last:]] if last < len(part) else []
        return [*pieces, tuple(open_parts)] if open_parts else pieces


def scene_key(scene: Scene) -> tuple[Any, ...] | None:
    """What a tail depends on besides messages, and the time that is written in it; None: it has no plain JSON."""
    try:
        tools = digest(msgspec.json.encode(scene.tools)) if scene.tools else b""
        extra = msgspec.json.encode(scene.extra) if scene.extra else b""
    except (OverflowError, RecursionError, TypeError, ValueError):  # half a surrogate pair, a number of 65 bits
        return None
    return tools, scene.add_generation_prompt, extra, scene.now is None


def _answer(guard: Guard, values: list[Any]) -> Any:
    return OPERATIONS[guard.operation](values[guard.source], *guard.arguments)


def _plain(form: Any) -> Any:
    if type(form) is not str:
        raise Untraceable("the form of a date")
    return form


def _after_mark(trace: Trace, parts: Parts) -> Parts:
    """What is written after the mark."""
    marks = [place for place, part in enumerate(parts) if isinstance(part, int) and _origin(trace, part) == MARK]
    if len(marks) != 1:
        raise Untraceable("the mark is not written once")
    number = _number(parts[marks[0]])
    while number >= trace.given:
        step = trace.steps[number - trace.given]
        chars = step.arguments[0] if step.arguments and step.operation != "json" else None
        if step.operation not in KEEPS_MARK or not (chars is None or (isinstance(chars, str) and chars.isspace())):
            raise Untraceable("the mark is changed")
        number = step.source
    written: str = trace.values[_number(parts[marks[0]])]
    after = written.partition(trace.values[MARK])[2]
    rest = list(parts[marks[0] + 1 :])
    if after:
        rest[:1] = [after + rest[0]] if rest and isinstance(rest[0], str) else [after, *rest[:1]]
    if not rest or not isinstance(rest[0], str):
        raise Untraceable("a text stands right after the mark")
    return tuple(rest)


def _number(part: str | int) -> int:
    if isinstance(part, str):
        raise TypeError(part)
    return part


def _origin(trace: Trace, number: int) -> int:
    while number >= trace.given:
        number = trace.steps[number - trace.given].source
    return number


def _pruned(trace: Trace, pieces: tuple[bytes | Parts, ...], is_cut: bool) -> _Shape:
    """The shape, without the values that neither a guard nor a piece needs."""
    needed = {guard.source for guard in trace.guards}
    needed |= {part for piece in pieces if isinstance(piece, tuple) for part in piece if isinstance(part, int)}
    for number in range(len(trace.values) - 1, trace.given - 1, -1):
        if number in needed:
            needed.add(trace.steps[number - trace.given].source)
    kept = [number for number in range(trace.given, len(trace.values)) if number in needed]
    place = {number: number for number in range(trace.given)}
    place |= {number: trace.given + order for order, number in enumerate(kept)}
    steps = [trace.steps[number - trace.given] for number in kept]
    return _Shape(
        guards=tuple(msgspec.structs.replace(guard, source=place[guard.source]) for guard in trace.guards),
        steps=tuple(msgspec.structs.replace(step, source=place[step.source]) for step in steps),
        pieces=tuple(
            piece
            if isinstance(piece, bytes)
            else tuple(part if isinstance(part, str) else place[part] for part in piece)
            for piece in pieces
        ),
        is_cut=is_cut,
    )
