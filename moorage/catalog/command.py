"""The inner command of an arch: one line for `/bin/sh -c`, the same bytes on every platform.

Every word is quoted for the shell, so no model path can break out of its argument. Three expressions are left for the
shell on purpose, so that a platform can move them by environment. Nothing secret enters: a command line is in `ps`, in
job scripts and in logs.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from moorage.catalog.model_path import ModelPath, encodable, served_model_name
from moorage.errors import UsageError

if TYPE_CHECKING:
    from moorage.catalog.catalog import Catalog
    from moorage.catalog.shapes import ContainerCommand

HOST_VARIABLE = "MOORAGE_HOST"
PORT_VARIABLE = "MOORAGE_PORT"
TENSOR_PARALLEL_VARIABLE = "MOORAGE_TENSOR_PARALLEL"
HF_TOKEN = "HF_TOKEN"  # noqa: S105  the variable's name
ALL_ADDRESSES = "0.0.0.0"  # noqa: S104  inside a container; what is published outside is the platform's choice

_PLACEHOLDER = re.compile(r"\{([a-z_]+)\}")
_MODEL_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}(?:/[A-Za-z0-9][A-Za-z0-9._-]{0,63}){0,3}")


def inner_command(
    catalog: Catalog,
    arch: str,
    *,
    job_id: str,
    model_path: ModelPath,
    platform: str,
    num_gpus: int,
    model_key: str | None = None,
    extra_arguments: Sequence[str] = (),
    served_name: str | None = None,
) -> str:
    """The command line. Raises UsageError for a model key or an extra argument that does not fit.

    `num_gpus` is what the model is split over, unless the platform says otherwise by environment. `extra_arguments`
    are passed to the server as they are, each as one argument. `served_name` is what an engine calls the model; None:
    what its path says.
    """
    arch = catalog.require_arch(arch)
    command = catalog.command(arch)
    check_model_key(arch, command, model_path, model_key)
    check_extra_arguments(arch, command, extra_arguments)
    model = model_path.name if command.hf_prefix == "strip" else model_path.text
    texts = {
        "model": model,
        "model_key": model_key or "",
        "served_model_name": served_name or served_model_name(model_path),
        "job": _literal_json(_job_payload(catalog, {"job_id": job_id, "model": model, "network_arch": arch})),
        "env": _literal_json(container_env(catalog, arch, job_id=job_id, platform=platform)),
    }
    expressions = {
        "host": _expression(HOST_VARIABLE, ALL_ADDRESSES),
        "port": _expression(PORT_VARIABLE, catalog.service.docker_run_reference.container_port),
        "tensor_parallel": _expression(TENSOR_PARALLEL_VARIABLE, num_gpus),
    }
    words: list[str] = []
    for word in command.words:
        if word == "{model_words}":
            words += [_shell_word(part, texts, expressions) for part in getattr(command.model_words, model_path.form)]
        elif word == "{extra_arguments}":
            words += [shlex.quote(argument) for argument in extra_arguments]
        else:
            words.append(_shell_word(word, texts, expressions))
    return f"umask 0 && {' '.join(words)}"


def container_env(catalog: Catalog, arch: str, *, job_id: str, platform: str) -> dict[str, str]:
    """The container's environment without secrets: the variables of `env_payload` that the arch has a use for."""
    payload = catalog.service.env_payload
    if platform not in payload.execution_backend:
        known = ", ".join(payload.execution_backend)
        raise UsageError(f"unknown platform {platform!r}", code="unknown_platform", hint=f"one of: {known}")
    texts = {"job_id": job_id, "execution_backend": payload.execution_backend[platform]}
    names = catalog.command(arch).environment
    return {name: _fill(payload.variables[name], texts) for name in names}


def secret_env_names(catalog: Catalog, arch: str, model_path: ModelPath, environ: Mapping[str, str]) -> list[str]:
    """Names of the secret variables that the container is given: HF_TOKEN, when it is set and the model is fetched."""
    catalog.require_arch(arch)
    return [HF_TOKEN] if model_path.form == "hf_model" and environ.get(HF_TOKEN) else []


def check_model_key(arch: str, command: ContainerCommand, model_path: ModelPath, model_key: str | None) -> None:
    """Raises UsageError when a key is missing, malformed, or given where nothing would read it."""
    wanted = command.needs_model_key_for_hf and model_path.form == "hf_model"
    if wanted and not model_key:
        raise UsageError(
            f"arch {arch} knows {model_path.text} by a registered key, which the path does not tell",
            code="model_key_required",
            hint="add --model-key KEY, a key that the server registers (as --model-key base-2b)",
            next=[f"moor start --network-arch {arch} --model-path {model_path.text} --model-key base-2b"],
        )
    if model_key is None or (not wanted and not model_key):
        return
    if not wanted:
        where = "for an absolute model path" if command.needs_model_key_for_hf else f"for arch {arch}"
        raise UsageError(f"--model-key has no use {where}", code="model_key_unused", hint="leave --model-key away")
    if not _MODEL_KEY.fullmatch(model_key):
        raise UsageError(
            f"--model-key {model_key!r} is not a model key",
            code="bad_model_key",
            hint="letters, digits, '.', '_' and '-', with '/' between parts (as base-2b)",
        )


def check_extra_arguments(arch: str, command: ContainerCommand, arguments: Sequence[str]) -> None:
    """Raises UsageError for arguments that the arch cannot take, and for flags that Moorage sets itself.

    `--flag=value`, `_` for `-` and shortened flags count too: Python's argument parsers read them as the flag.
    """
    if arguments and "{extra_arguments}" not in command.words:
        raise UsageError(
            f"arch {arch} takes no arguments after --", code="extra_arguments_refused", hint="leave them away"
        )
    for argument in arguments:
        if not encodable(argument):
            raise UsageError(
                f"argument {argument!r} after -- holds a character that no command line can",
                code="bad_extra_argument",
                hint="remove NUL and broken Unicode characters",
            )
        reserved = _reserved_flag(command, argument)
        if reserved is not None:
            flag = argument.partition("=")[0]
            raise UsageError(
                f"{flag!r} after -- reads as {reserved}, which Moorage sets itself or keeps off command lines",
                code="reserved_argument",
                hint=f"remove it; these are reserved: {', '.join(command.reserved_arguments)}",
            )


def _reserved_flag(command: ContainerCommand, argument: str) -> str | None:
    """The reserved flag that a server would read from the argument; None when there is none."""
    flag = _canonical(argument)
    if not flag.startswith("-") or flag in ("-", "--"):
        return None
    reserved = {_canonical(name): name for name in command.reserved_arguments}
    if flag in reserved:
        return reserved[flag]
    if not flag.startswith("--") or flag in map(_canonical, command.optional_arguments):
        return None
    return next((name for full, name in reserved.items() if full.startswith(flag)), None)


def _canonical(argument: str) -> str:
    return argument.partition("=")[0].replace("_", "-")


def _job_payload(catalog: Catalog, texts: Mapping[str, str]) -> dict[str, Any]:
    """The payload: a dotted field of the reference is an object within an object."""
    payload: dict[str, Any] = {}
    for dotted, template in catalog.service.job_payload.fields.items():
        *outer, last = dotted.split(".")
        holder = payload
        for name in outer:
            holder = holder.setdefault(name, {})
        holder[last] = _fill(template, texts)
    return payload


def _literal_json(value: Mapping[str, Any]) -> str:
    """JSON that is a Python literal of the same value too: older TAO containers read it with `ast.literal_eval`.

    Hence no true, false or null in it, and no character written as a pair of surrogate escapes.
    """
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _expression(variable: str, default: object) -> str:
    return f'"${{{variable}:-{default}}}"'


def _shell_word(word: str, texts: Mapping[str, str], expressions: Mapping[str, str]) -> str:
    """One word with its placeholders filled in once: what they bring in is never looked at again."""
    rendered, literal = "", ""
    for index, piece in enumerate(_PLACEHOLDER.split(word)):
        if index % 2 == 0:
            literal += piece
        elif piece in expressions:
            rendered += (shlex.quote(literal) if literal else "") + expressions[piece]
            literal = ""
        else:
            literal += texts[piece]
    return rendered + (shlex.quote(literal) if literal or not rendered else "")


def _fill(template: str, texts: Mapping[str, str]) -> str:
    return _PLACEHOLDER.sub(lambda found: texts[found.group(1)], template)
