"""A model's chat template: Jinja in a sandbox, with what templates on model hubs rely on."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

import jinja2
import jinja2.ext
import jinja2.nodes
import jinja2.parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from moorage.engines.rendering.conversing import Conversing
from moorage.engines.rendering.trace import Untraceable
from moorage.engines.rendering.tracing import TracedEnvironment
from moorage.errors import UsageError

__all__ = ["ChatTemplate", "TemplateFault"]


class TemplateFault(UsageError):
    """The template refuses these messages, or cannot be run at all."""

    code = "template_failed"


class ChatTemplate:
    """One compiled template. Rendering changes nothing, so one instance serves every session."""

    def __init__(self, source: str, named: Mapping[str, str] | None = None) -> None:
        """`named`: the tokenizer's `bos_token`, `eos_token` … Raises TemplateFault for what is no template."""
        self.source = source
        self._named = dict(named or {})
        self._environment = _environment()
        try:
            self._template = self._environment.from_string(source)
        except (jinja2.TemplateError, RecursionError) as fault:
            raise TemplateFault(f"the chat template is no valid template: {fault}") from None
        self._told: jinja2.Template | None = None
        self._knows_developer = "'developer'" in source or '"developer"' in source
        self._conversing = Conversing(takes_parts=self._takes_parts(), knows_developer=self._knows_developer)

    def render(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        tools: Sequence[Any] | None = None,
        add_generation_prompt: bool = True,
        extra: Mapping[str, Any] | None = None,
        now: datetime | None = None,
    ) -> str:
        """The prompt's text for OpenAI messages. `extra`: the client's `chat_template_kwargs`.

        `now`: what a template that writes today's date is told; None: such a template fails. Raises TemplateFault.
        """
        return self._render(self._template, messages, tools, add_generation_prompt, extra, _strftime(now))

    def prepare_told(self) -> bool:
        """Compile what `render_told` needs, which takes as long as the template itself; False: that cannot be."""
        try:
            self._told = TracedEnvironment(self._environment).from_string(self.source)
        except (Untraceable, jinja2.TemplateError, RecursionError):
            return False
        return True

    def render_told(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        tools: Sequence[Any] | None,
        add_generation_prompt: bool,
        extra: Mapping[str, Any] | None,
        strftime_now: Callable[[str], str],
    ) -> str:
        """The same for messages with told texts (`moorage.engines.rendering.trace`), once that is prepared.

        Raises Untraceable too, and TemplateFault also for what only a told text fails on.
        """
        if self._told is None:
            raise Untraceable("the template itself")
        return self._render(self._told, messages, tools, add_generation_prompt, extra, strftime_now)

    def _render(
        self,
        template: jinja2.Template,
        messages: Sequence[Mapping[str, Any]],
        tools: Sequence[Any] | None,
        add_generation_prompt: bool,
        extra: Mapping[str, Any] | None,
        strftime_now: Callable[[str], str],
    ) -> str:
        values: dict[str, Any] = {
            **self._named,
            **(extra or {}),
            "messages": self._conversing.messages(messages),
            "tools": self._conversing.tools(tools) if tools else None,
            "documents": (extra or {}).get("documents"),
            "add_generation_prompt": add_generation_prompt,
            "strftime_now": strftime_now,
        }
        try:
            return template.render(values)
        except jinja2.TemplateError as fault:
            raise TemplateFault(
                f"the chat template refuses these messages: {fault}",
                hint="see what the model's template asks of the order and the roles of messages",
            ) from None
        except (TypeError, ValueError, KeyError, AttributeError, ArithmeticError, LookupError, RecursionError) as fault:
            # What a template does to a value of another kind than it expects.
            raise TemplateFault(f"the chat template failed: {type(fault).__name__}: {fault}") from None

    def _takes_parts(self) -> bool:
        """Whether it reads content as a list of parts; those that do not would print the list as it is."""
        self._conversing = Conversing(takes_parts=True, knows_developer=self._knows_developer)
        said = "parts" + "probe"
        try:
            text = self.render([{"role": "user", "content": said}], now=datetime(2026, 1, 1))
        except TemplateFault:
            return False
        return text.count(said) == 1 and "'text'" not in text and '"text"' not in text


class _Generation(jinja2.ext.Extension):
    """`{% generation %}` marks what the assistant said, for trainers; here it is passed through."""

    tags = {"generation"}  # noqa: RUF012

    def parse(self, parser: jinja2.parser.Parser) -> jinja2.nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return jinja2.nodes.CallBlock(self.call_method("_as_it_is"), [], [], body).set_lineno(line)

    def _as_it_is(self, caller: Callable[[], str]) -> str:
        return caller()


def _environment() -> ImmutableSandboxedEnvironment:
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, jinja2.ext.loopcontrols]
    )
    environment.filters["tojson"] = _tojson
    environment.globals["raise_exception"] = _raise
    return environment


def _tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """Jinja's own filter writes < and > as escapes for HTML, which no model was trained on."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _raise(message: str) -> str:
    raise jinja2.TemplateError(message)


def _strftime(now: datetime | None) -> Callable[[str], str]:
    def strftime_now(form: str) -> str:
        if now is None:
            raise jinja2.TemplateError("it writes today's date, which was not given")
        return now.strftime(form)

    return strftime_now
