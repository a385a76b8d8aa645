"""What a model would sample, as far as its own template shows it: an answer's opening, a call's syntax, its end.

Words are sampled letter by letter, as no tokenizer encodes them: what a session keeps, it keeps by its ids, and not
because the text happens to be encoded in the same way again.
"""

from __future__ import annotations

import json
import re
from typing import Any

from moorage.engines.rendering.checking.subject import ASKED, ASKED_AGAIN, MARK, Messages, Subject, answer, call, result
from moorage.engines.rendering.thoughts import CLOSE, OPEN

__all__ = ["Voice"]


class Voice:
    """For one subject."""

    def __init__(self, subject: Subject) -> None:
        self._subject = subject
        self._opening: str | None = None

    def says(self, text: str, *, following: Messages = (ASKED_AGAIN,), tools: bool = False) -> list[int]:
        """[C] an answer with the end that the template gives it before `following`."""
        return [*self._spelt(self.opening + text), *self._end(answer(MARK), following, tools=tools)]

    def calls(self, *arguments: str, said: str = "", respelt: bool = False) -> list[int]:
        """[C] calls of the first tool; `respelt`: with their JSON in another spelling than the template's."""
        subject = self._subject
        name = subject.tool_name
        text = self._written_calls(*arguments) or "".join(
            json.dumps({"name": name, "arguments": json.loads(one)}) for one in arguments
        )
        if respelt:
            for one in arguments:
                plain = json.loads(one)
                for value in (plain, *(plain.values() if isinstance(plain, dict) else ())):
                    if isinstance(value, dict | list):
                        text = text.replace(json.dumps(value, ensure_ascii=False), _respelt(value))
        end = self._end(call(name, *arguments), [result(name)], tools=True)
        return [*self._spelt(said + text), *end]

    def thought(self, thought: str, text: str) -> tuple[list[int], str]:
        """[C] an answer that thinks first, and the content that a client is given when nothing splits it.

        A template that begins the thought itself leaves the beginning away.
        """
        begun = self._subject.text([ASKED]).rstrip().endswith(OPEN)
        content = f"{'' if begun else OPEN}\n{thought}\n{CLOSE}\n\n{text}".lstrip("\n" if begun else "")
        return [*self._spelt(content), *self._end(answer(MARK), [ASKED_AGAIN], tools=False)], content

    @property
    def opening(self) -> str:
        """What the template writes of an answer between the header that it gives the model and the content."""
        if self._opening is None:
            prompt, around = self._subject.tried([ASKED]), self._subject.around([ASKED, answer(MARK), ASKED_AGAIN])
            known = prompt is not None and around is not None and around[0].startswith(prompt)
            self._opening = around[0][len(prompt) :] if known and around and prompt else ""
        return self._opening

    def _spelt(self, text: str) -> list[int]:
        """[N] the ids of a text, its words letter by letter; tokens like `<think>` stay whole."""
        encode = self._subject.tokenizer.encode
        ids: list[int] = []
        for part in re.split(r"((?<![<|_])\b[A-Za-z]{2,}\b(?![>|_]))", text):
            ids += [token for letter in part for token in encode(letter)] if part.isalpha() else encode(part)
        return ids if self._subject.tokenizer.decode(ids, skip_special=False) == self._decoded(text) else encode(text)

    def _decoded(self, text: str) -> str:
        tokenizer = self._subject.tokenizer
        return tokenizer.decode(tokenizer.encode(text), skip_special=False)

    def _written_calls(self, *arguments: str) -> str:
        """The text of calls as the template writes them after its own header; empty: that cannot be told."""
        subject = self._subject
        name = subject.tool_name
        results = [result(name, number=number) for number in range(len(arguments))]
        prompt = subject.tried([ASKED], tools=True)
        after = subject.tried([ASKED, call(name, *arguments), *results], tools=True)
        if prompt is None or after is None or not after.startswith(prompt):
            return ""
        ids = subject.tokenizer.encode(after[len(prompt) :])
        ends = subject.traits(tools=True).end_ids
        end = next((place for place, token_id in enumerate(ids) if token_id in ends), None)
        return "" if end is None else subject.tokenizer.decode(ids[:end], skip_special=False)

    def _end(self, reply: dict[str, Any], following: Messages, *, tools: bool) -> list[int]:
        """The template's own end where the engine stops at it; else the tokenizer's; none when it has none."""
        subject = self._subject
        tokenizer = subject.tokenizer
        tail = subject.tail([ASKED, reply, *following], 1, tools=tools)
        if tail and tail[0] in tokenizer.eos_ids:
            return tail[:1]
        named = tokenizer.named.get("eos_token")
        own = tokenizer.encode(named) if named else []
        return own[:1] or sorted(tokenizer.eos_ids)[:1]


def _respelt(arguments: Any) -> str:
    """The same JSON without spaces, and with its keys in the opposite order."""
    turned = dict(reversed(arguments.items())) if isinstance(arguments, dict) else arguments
    return json.dumps(turned, ensure_ascii=False, separators=(",", ":"))
