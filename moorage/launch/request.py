"""Sending one chat completion to the service that is meant, and reading what comes back.

The body is checked against the service's arch before anything is sent; what a server answers is mapped to the error
tree by status and `error.type`, and its own message is passed on.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from moorage.catalog.request_body import MediaItem, build_body, cross_check, find_secret
from moorage.catalog.sampling import check_values, defaults, fields_of, missing_flags, parse_field
from moorage.errors import FailedError, NotReadyError, UsageError
from moorage.launch.chat import ChatClient, Reply
from moorage.launch.entry import Entry
from moorage.launch.media import check_output_target, is_media_reply, load_media, save_media_reply
from moorage.launch.observe import observe
from moorage.launch.plane import Plane
from moorage.launch.platforms import NEAR_PLATFORMS
from moorage.launch.platforms.base import Report
from moorage.launch.probe import access_headers, base_url
from moorage.launch.routing import resolve

Ask = Callable[[str, dict[str, Any]], dict[str, Any]]
"""(arch, values given) → all values; asks a person for the others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatRequest:
    """What the user asked for; None means not given."""

    job_id: str | None = None
    network_arch: str | None = None
    platform: str | None = None
    prompt: str | None = None
    system: str | None = None
    images: tuple[str, ...] = ()
    videos: tuple[str, ...] = ()
    texts: Mapping[str, str] = field(default_factory=dict)
    """Sampling field → value, as it was typed."""
    accept_defaults: bool = False
    raw_body: Path | None = None
    stream: bool = False
    wait_s: float = 0.0
    timeout_s: float = 300.0
    output: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A request that may be sent."""

    entry: Entry
    url: str
    body: bytes
    streams: bool

    def as_data(self) -> dict[str, Any]:
        """`data.plan` of a dry run."""
        return {"job_id": self.entry["job_id"], "url": self.url, "body": json.loads(self.body)}


def prepare(plane: Plane, wanted: ChatRequest, report: Report, *, ask: Ask | None, look: bool = True) -> Prepared:
    """Choose the service and make the body. `ask` is None without a terminal; `look=False` asks no platform.

    Raises NotFoundError, AmbiguousError, FailedError (dead), UsageError.
    """
    if wanted.network_arch is not None:
        wanted = replace(wanted, network_arch=plane.catalog.require_arch(wanted.network_arch))
    entry = _target(plane, wanted, look=look)
    catalog = plane.catalog
    arch = catalog.require_arch(str(entry.get("network_arch")))
    entry = {**entry, "network_arch": arch}  # other tools may write it in capitals
    streams = wanted.stream and catalog.service.container_commands[arch].streams
    if wanted.stream and not streams:
        report("warning", f"the servers of {arch} do not stream: the whole reply comes as one chunk")
    data = _raw_body(wanted) if wanted.raw_body else _built_body(plane, wanted, entry, ask, streams=streams)
    body = _parse_object(data, wanted)
    for warning in cross_check(catalog, arch, body):
        report("warning", warning)
    leak = find_secret(data, plane.secrets()) or find_secret(body, plane.secrets())
    if leak is not None:
        raise UsageError(
            f"the body holds the value of the secret variable {leak}",
            code="secret_in_body",
            hint="a request body is kept in logs and traces: take the secret out",
        )
    if not entry.get("host_url") and entry.get("platform") not in NEAR_PLATFORMS:
        raise _no_address(entry)
    url = base_url(entry) + catalog.request.chat_completions_request_body.path
    return Prepared(entry=entry, url=url, body=data, streams=streams or (body.get("stream") is True))


def send(
    plane: Plane,
    wanted: ChatRequest,
    prepared: Prepared,
    report: Report,
    *,
    on_delta: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """Send it; `job_id`, `content`, `response` and `output_file`. `on_delta` gets text as it streams."""
    entry = prepared.entry
    rules = plane.catalog.request.network_arch_constraints[entry["network_arch"]]
    if wanted.output is not None or rules.reply == "media":
        check_output_target(wanted.output, Path.cwd())
    client = ChatClient(
        entry=entry,
        url=prepared.url,
        timeout_s=wanted.timeout_s,
        wait_s=wanted.wait_s,
        report=report,
        headers=access_headers(entry, plane.environ),
        is_dead=lambda: observe(plane, [entry], probe=False)[entry["job_id"]].dead,
    )
    # A video is saved, not shown: nobody wants megabytes of base64 on the screen.
    told = None if rules.reply == "media" else on_delta
    reply = client.send(prepared.body, streams=prepared.streams, on_delta=told)
    return _result(plane, wanted, entry, reply)


def _result(plane: Plane, wanted: ChatRequest, entry: Entry, reply: Reply) -> dict[str, Any]:
    data = {"job_id": entry["job_id"], "content": reply.content, "response": reply.response, "output_file": None}
    rules = plane.catalog.request.network_arch_constraints[entry["network_arch"]]
    if reply.content is not None and is_media_reply(reply.content):
        saved = save_media_reply(reply.content, wanted.output, Path.cwd(), entry["job_id"])
        return data | {"content": None, "output_file": str(saved)}
    if rules.reply == "media":
        raise FailedError(
            f"the service {entry['job_id']} answered with text where {entry['network_arch']} answers with a video",
            code="bad_reply",
            data={"response": reply.response},
            next=[f"moor logs {entry['job_id']}"],
        )
    return data


def _no_address(entry: Entry) -> NotReadyError:
    job_id = entry["job_id"]
    return NotReadyError(
        f"the service {job_id} has no address yet",
        code="no_address",
        hint=f"{entry['platform']} tells it when the service comes up",
        next=[f"moor wait {job_id}", f"moor status {job_id}"],
    )


def _target(plane: Plane, wanted: ChatRequest, *, look: bool) -> Entry:
    services = plane.registry.read(quarantine=look).services
    if wanted.platform is not None:
        services = {key: entry for key, entry in services.items() if entry.get("platform") == wanted.platform}
    # Whether one of several is beyond hope only the servers know; for the only one its answer will tell.
    must_choose = wanted.job_id is None and len(services) > 1
    seen = observe(plane, services.values(), probe=must_choose) if look else {}
    for job_id, observed in seen.items():
        services[job_id] |= {**observed.fields, "state": observed.state}
    dead = {job_id for job_id, observed in seen.items() if observed.dead}
    target = {"job_id": wanted.job_id, "network_arch": wanted.network_arch}
    return resolve(services, **target, dead=dead, live_only=True, verb="request")


def _built_body(plane: Plane, wanted: ChatRequest, entry: Entry, ask: Ask | None, *, streams: bool) -> bytes:
    arch, catalog = entry["network_arch"], plane.catalog
    if wanted.prompt is None:
        raise UsageError("no prompt", code="prompt_required", hint="add --prompt TEXT, or --raw-body FILE")
    rules = catalog.request.network_arch_constraints[arch]
    media: list[MediaItem] = [load_media(item, "image", rules) for item in wanted.images]
    media += [load_media(item, "video", rules) for item in wanted.videos]
    values = _sampling(plane, wanted, arch, ask)
    name = entry.get("served_model_name")
    body = build_body(
        catalog,
        arch,
        model=name if isinstance(name, str) else None,
        prompt=wanted.prompt,
        system=wanted.system,
        media=media,
        values=values,
    )
    return json.dumps(body | ({"stream": True} if streams else {}), ensure_ascii=False).encode()


def _sampling(plane: Plane, wanted: ChatRequest, arch: str, ask: Ask | None) -> dict[str, Any]:
    fields = fields_of(plane.catalog, arch)
    strangers = {name: text for name, text in wanted.texts.items() if name not in fields}
    check_values(plane.catalog, arch, strangers)
    values = {name: parse_field(fields[name], text) for name, text in wanted.texts.items()}
    check_values(plane.catalog, arch, values)
    if wanted.accept_defaults:
        return defaults(plane.catalog, arch) | values
    missing = missing_flags(plane.catalog, arch, values)
    if not missing:
        return values
    if ask is None:
        raise UsageError(
            f"no terminal to ask for {', '.join(missing)}",
            code="sampling_required",
            hint="give each of them, or add --accept-defaults to take the defaults of the arch",
            data={"missing": missing},
        )
    values = ask(arch, values)
    check_values(plane.catalog, arch, values)
    return values


def _raw_body(wanted: ChatRequest) -> bytes:
    given = [name for name, value in _excluded(wanted).items() if value]
    if given:
        raise UsageError(f"--raw-body excludes {', '.join(given)}", hint="put them into the file")
    path = wanted.raw_body
    assert path is not None
    try:
        return path.read_bytes()
    except OSError as fault:
        raise UsageError(f"--raw-body {path}: {fault.strerror or fault}") from fault


def _excluded(wanted: ChatRequest) -> dict[str, Any]:
    """What a raw body takes the place of, by flag."""
    return {
        "--prompt": wanted.prompt,
        "--system": wanted.system,
        "--image": wanted.images,
        "--video": wanted.videos,
        **{f"--{name.replace('_', '-')}": True for name in wanted.texts},
    }


def _parse_object(data: bytes, wanted: ChatRequest) -> dict[str, Any]:
    try:
        body = json.loads(data)
    except (ValueError, RecursionError) as fault:
        raise UsageError(f"--raw-body {wanted.raw_body} is not JSON: {fault}", code="bad_body") from fault
    if not isinstance(body, dict) or not body:
        raise UsageError("the body is not a JSON object with something in it", code="bad_body")
    return body
