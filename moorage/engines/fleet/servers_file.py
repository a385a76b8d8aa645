"""Atropos's servers file and the body of its `/setup`: one shape, validated before anything is changed.

    {"model_name": "…", "tokenizer_name": "…", "servers": [{"base_url": "http://127.0.0.1:9001/v1", …}]}

A key may be missing or empty. Servers of several types may stand in one list. Fields that mean nothing to a gateway are
passed over.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import msgspec

from moorage.engines.fleet.endpoint import Endpoint
from moorage.engines.fleet.server_types import SERVER_TYPES, ServerType
from moorage.engines.reasoning.config import InvalidReasoning, ReasoningConfig
from moorage.engines.reasoning.providers import check_bounds, provider_of
from moorage.engines.wire.origin import Origin
from moorage.errors import UsageError

__all__ = ["endpoints_of", "read_servers"]

NO_NAMES = (None, "", "none")
Positive = Annotated[int, msgspec.Meta(ge=1)]


class _Reasoning(msgspec.Struct):
    enabled: bool = False
    effort: str | None = None
    max_tokens: int | None = None
    as_tokens: bool = False


class _Server(msgspec.Struct):
    base_url: str
    server_type: str = "vllm"
    api_key: str | None = None
    api_key_env: str | None = None
    model_name: str | None = None
    tokenizer_name: str | None = None
    num_max_requests_at_once: Positive = 512
    num_requests_for_eval: Positive = 64
    timeout: Annotated[float, msgspec.Meta(gt=0)] | None = None
    health_check: bool = True
    weight: Annotated[float, msgspec.Meta(gt=0, le=1)] = 1.0
    rolling_buffer_length: Positive = 1000
    n_kwarg_is_ignored: bool = False
    api_version: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9.-]{1,64}$")] | None = None
    reasoning: _Reasoning | None = None
    thinking_mode: bool | None = None
    reasoning_effort: str | None = None
    max_reasoning_tokens: int | None = None


class _Servers(msgspec.Struct):
    servers: list[_Server]
    model_name: str | None = None
    tokenizer_name: str | None = None
    reasoning: _Reasoning | None = None
    thinking_mode: bool | None = None
    reasoning_effort: str | None = None
    max_reasoning_tokens: int | None = None


def read_servers(path: str | Path) -> list[Endpoint]:
    """The endpoints of a servers file, in its order. Raises UsageError that names the file and the place in it."""
    try:
        fields = msgspec.json.decode(Path(path).read_bytes())
    except OSError as error:
        raise UsageError(f"--servers {path}: {error.strerror}", code="servers_file") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"--servers {path} is not JSON: {error}", code="servers_file") from None
    if not isinstance(fields, dict):
        raise UsageError(f"--servers {path} is not a JSON object", code="servers_file")
    try:
        found = endpoints_of(fields)
    except UsageError as fault:
        raise UsageError(f"--servers {path}: {fault.message}", code="servers_file", hint=fault.hint) from None
    if not found:
        raise UsageError(f"--servers {path} names no server", code="servers_file", hint='"servers" is a list')
    return found


def endpoints_of(fields: Mapping[str, Any]) -> list[Endpoint]:
    """The endpoints that decoded JSON describes; an empty list of servers gives none. Raises UsageError."""
    try:
        said = msgspec.convert(fields, _Servers)
    except msgspec.ValidationError as error:
        raise UsageError(f"the servers are not as they should be: {error}", code="bad_servers") from None
    endpoints = [_endpoint(server, number, said) for number, server in enumerate(said.servers)]
    seen: dict[str, int] = {}
    for number, endpoint in enumerate(endpoints):
        if endpoint.url in seen:
            raise UsageError(
                f"servers[{number}] is the same as servers[{seen[endpoint.url]}]: {endpoint.base_url}",
                code="bad_servers",
            )
        seen[endpoint.url] = number
    return endpoints


def _endpoint(server: _Server, number: int, said: _Servers) -> Endpoint:
    if server.server_type not in SERVER_TYPES:
        raise UsageError(
            f"servers[{number}].server_type is {server.server_type!r}",
            code="bad_servers",
            hint=f"known are {', '.join(SERVER_TYPES)}",
        )
    try:
        origin = Origin.parse(server.base_url)
    except UsageError as fault:
        raise UsageError(f"servers[{number}].base_url: {fault.message}", code="bad_servers", hint=fault.hint) from None
    kind: ServerType = server.server_type  # type: ignore[assignment]  # it is one of them, as was just checked
    return Endpoint(
        origin=origin,
        base_url=server.base_url,
        server_type=kind,
        model_name=_name(server.model_name, said.model_name),
        tokenizer_name=_name(server.tokenizer_name, said.tokenizer_name),
        api_key=server.api_key or None,
        api_key_env=server.api_key_env or None,
        num_max_requests_at_once=server.num_max_requests_at_once,
        num_requests_for_eval=server.num_requests_for_eval,
        timeout_s=server.timeout,
        health_check=server.health_check,
        weight=server.weight,
        rolling_buffer_length=server.rolling_buffer_length,
        n_kwarg_is_ignored=server.n_kwarg_is_ignored,
        api_version=server.api_version,
        reasoning=_reasoning(server, said, origin, number),
    )


def _reasoning(server: _Server, said: _Servers, origin: Origin, number: int) -> ReasoningConfig | None:
    """A server's own comes before the file's; `reasoning` before the fields of Atropos's environments."""
    for one in (server, said):
        try:
            found = _reasoning_of(one)
            if found is not None:
                check_bounds(found, provider_of(origin.host))
                return found
        except InvalidReasoning as fault:
            where = f"servers[{number}]: " if one is server else ""
            raise UsageError(f"{where}{fault.message}", code="bad_servers", hint=fault.hint) from None
    return None


def _reasoning_of(one: _Server | _Servers) -> ReasoningConfig | None:
    if one.reasoning is not None:
        return ReasoningConfig(**msgspec.structs.asdict(one.reasoning))
    if one.thinking_mode is None and one.reasoning_effort is None and one.max_reasoning_tokens is None:
        return None
    return ReasoningConfig(bool(one.thinking_mode), one.reasoning_effort, one.max_reasoning_tokens)


def _name(own: str | None, common: str | None) -> str | None:
    """A server's own name comes before the file's; Atropos writes `none` for none."""
    return next((name for name in (own, common) if name not in NO_NAMES), None)
