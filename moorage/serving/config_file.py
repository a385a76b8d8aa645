"""Reading the configuration file: YAML whose every key is known, with every fault told at once and with its line."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any
from urllib.parse import urlsplit

import yaml

from moorage.errors import UsageError
from moorage.launch.platforms.options import OPTIONS
from moorage.serving.settings import Config, Launch, Limits, Llm, Quotas, Ray

__all__ = ["KEYS", "read_config"]

LARGEST_BYTES = 1 << 20
PLATFORM, OPTIONS_KEY = "serving.launch.platform", "serving.launch.options"


def read_config(file: Path) -> Config:
    """The file's values over the defaults. Raises UsageError `bad_config` with every fault in `data["faults"]`."""
    try:
        with file.open("rb") as opened:
            content = opened.read(LARGEST_BYTES + 1)
    except OSError as fault:
        raise UsageError(f"--config {file}: {fault.strerror}", code="bad_config") from fault
    if len(content) > LARGEST_BYTES:
        raise UsageError(f"--config {file}: more than {LARGEST_BYTES} bytes", code="bad_config")
    reading = _Reading(file)
    reading.read(_parsed(file, content))
    if reading.faults:
        raise UsageError(
            f"--config {file}: {reading.faults[0]['message']}",
            code="bad_config",
            hint="known keys: " + ", ".join(sorted(KEYS)),
            data={"faults": reading.faults},
        )
    return _config(reading.values)


def _parsed(file: Path, content: bytes) -> yaml.Node | None:
    try:
        loader = yaml.SafeLoader(content.decode())
        try:
            return loader.get_single_node()
        finally:
            loader.dispose()
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as fault:
        told = " ".join(str(fault).split())
        raise UsageError(f"--config {file} is not YAML: {told}", code="bad_config") from fault


class _Reading:
    """One pass over a file: what it says, and what is wrong with it."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self.values: dict[str, Any] = {}
        """Dotted key → value."""
        self._nodes: dict[str, yaml.Node] = {}
        """Where each of them stands."""
        self.faults: list[dict[str, Any]] = []

    def read(self, node: yaml.Node | None) -> None:
        if node is None or (isinstance(node, yaml.ScalarNode) and node.tag.endswith(":null")):
            return  # an empty file
        self._mapping(node, "")
        self._options()

    def _options(self) -> None:
        """Names and kinds of the chosen platform's options; one that there is not is told where it is opened."""
        platform = self.values.get(PLATFORM, Launch().platform)
        node = self._nodes.get(OPTIONS_KEY)
        if not isinstance(node, yaml.MappingNode) or platform not in OPTIONS:
            return
        known, given = OPTIONS[platform], self.values[OPTIONS_KEY]
        for key_node, value_node in node.value:
            name = key_node.value
            key = f"{OPTIONS_KEY}.{name}"
            if name not in known:
                names = f"its options are {', '.join(sorted(known))}" if known else "it has no options"
                self._fault(key_node, key, f"is no option of {platform}: {names}")
            elif not _KINDS[known[name]].holds(given[name]):
                self._fault(value_node, key, f"{_shown(given[name])} is not {_KINDS[known[name]].words}")

    def _mapping(self, node: yaml.Node, prefix: str) -> None:
        if not isinstance(node, yaml.MappingNode):
            self._fault(node, prefix, "is no mapping")
            return
        seen: set[str] = set()
        for key_node, value_node in node.value:
            word = str(key_node.value) if isinstance(key_node, yaml.ScalarNode) else "?"
            key = f"{prefix}.{word}" if prefix else word
            if key in seen:
                self._fault(key_node, key, "is there twice")
            elif key in KEYS:
                self._leaf(key, value_node)
            elif any(known.startswith(f"{key}.") for known in KEYS):
                self._mapping(value_node, key)
            else:
                self._fault(key_node, key, "is unknown")
            seen.add(key)

    def _leaf(self, key: str, node: yaml.Node) -> None:
        try:
            value = _constructed(node)
        except (yaml.YAMLError, ValueError, RecursionError) as fault:
            self._fault(node, key, " ".join(str(fault).split()))
            return
        wanted = KEYS[key]
        if not wanted.holds(value):
            self._fault(node, key, f"{_shown(value)} is not {wanted.words}")
            return
        self.values[key] = value
        self._nodes[key] = node

    def _fault(self, node: yaml.Node, key: str, what: str) -> None:
        line = node.start_mark.line + 1
        pointer = "/" + key.replace(".", "/") if key else ""
        message = f"line {line}: {key or 'the file'} {what}"
        self.faults.append({"file": str(self._file), "line": line, "pointer": pointer, "message": message, "hint": ""})


def _constructed(node: yaml.Node) -> Any:
    loader = yaml.SafeLoader("")
    try:
        return loader.construct_object(node, deep=True)
    finally:
        loader.dispose()


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:80]}…"


def _config(values: Mapping[str, Any]) -> Config:
    def part(cls: Any, prefix: str) -> Any:
        names = [one.name for one in fields(cls)]
        return cls(**{name: values[f"{prefix}.{name}"] for name in names if f"{prefix}.{name}" in values})

    plain = {
        name: values[f"serving.{name}"]
        for name in ("deadline_s", "attempts", "drain_s", "keep_deleted_s")
        if f"serving.{name}" in values
    }
    return Config(
        auth=values.get("auth", "none"),
        llm=part(Llm, "serving.llm"),
        limits=part(Limits, "serving.limits"),
        quotas=part(Quotas, "serving.quotas"),
        ray=part(Ray, "serving.ray"),
        launch=_launch(part(Launch, "serving.launch")),
        **plain,
    )


def _launch(launch: Launch) -> Launch:
    """Ids of GPUs are words, however they were written."""
    return launch if launch.gpus is None else replace(launch, gpus=tuple(map(str, launch.gpus)))


@dataclass(frozen=True, slots=True)
class _Wanted:
    words: str
    holds: Callable[[Any], bool]


def _whole(least: int, most: int) -> _Wanted:
    return _Wanted(f"a whole number from {least} to {most}", lambda value: _is_whole(value) and least <= value <= most)


def _or_null(wanted: _Wanted) -> _Wanted:
    return _Wanted(f"{wanted.words}, or null", lambda value: value is None or wanted.holds(value))


def _one_of(*known: str) -> _Wanted:
    return _Wanted(f"one of {', '.join(known)}", lambda value: isinstance(value, str) and value in known)


def _seconds(least: float) -> _Wanted:
    return _Wanted(f"a number of seconds, {least:g} or more", lambda value: _is_number(value) and value >= least)


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_word(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip()) and value.isprintable()


def _is_http(value: Any) -> bool:
    if not _is_word(value):
        return False
    try:
        parts = urlsplit(value)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        return False


def _is_owner(value: Any) -> bool:
    return isinstance(value, str) and re.fullmatch(r"[a-z0-9][a-z0-9-]{0,62}", value) is not None


def _is_gpus(value: Any) -> bool:
    """Ids or numbers, each once."""
    if not isinstance(value, list) or not value:
        return False
    return len({str(one) for one in value}) == len(value) and all(_is_whole(one) or _is_word(one) for one in value)


def _is_kwargs(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(name, str) for name in value)


_MOST = 1_000_000_000

_KINDS: Mapping[type, _Wanted] = MappingProxyType(
    {
        str: _Wanted("text", _is_word),
        int: _whole(1, _MOST),
        bool: _Wanted("true or false", lambda value: isinstance(value, bool)),
        float: _seconds(1),
    }
)
"""Of platforms' options."""

KEYS: Mapping[str, _Wanted] = MappingProxyType(
    {
        "auth": _one_of("none", "required"),
        "serving.llm.accelerator_type": _or_null(_Wanted("a word", _is_word)),
        "serving.llm.accelerator": _one_of("gpu", "cpu"),
        "serving.llm.engine_kwargs": _Wanted("a mapping of names to values", _is_kwargs),
        "serving.limits.replicas": _whole(1, 1024),
        "serving.limits.gpus_per_replica": _whole(1, 64),
        "serving.deadline_s": _seconds(1),
        "serving.attempts": _whole(1, 1000),
        "serving.drain_s": _seconds(0),
        "serving.keep_deleted_s": _or_null(_seconds(1)),
        "serving.ray.address": _or_null(_Wanted("an http:// or https:// address", _is_http)),
        "serving.ray.num_cpus": _or_null(_whole(1, 1_000_000)),
        "serving.ray.proxy_port": _or_null(_whole(1, 65535)),
        "serving.ray.proxy_url": _or_null(_Wanted("an http:// or https:// address", _is_http)),
        "serving.ray.token_env": _or_null(_Wanted("the name of a variable", _is_word)),
        "serving.ray.owner": _or_null(_Wanted("lower-case letters, digits and dashes", _is_owner)),
        "serving.launch.platform": _Wanted("a word", _is_word),
        "serving.launch.gpus": _or_null(_Wanted("a list of GPU ids", _is_gpus)),
        "serving.launch.options": _Wanted("a mapping of names to values", _is_kwargs),
        "serving.quotas.models": _or_null(_whole(0, _MOST)),
        "serving.quotas.gpus": _or_null(_whole(0, _MOST)),
        "serving.quotas.requests_per_minute": _or_null(_whole(0, _MOST)),
        "serving.quotas.tokens_per_minute": _or_null(_whole(0, _MOST)),
        "serving.quotas.concurrent_requests": _or_null(_whole(0, _MOST)),
    }
)
"""Every key of the file, dotted, and what its value is."""
