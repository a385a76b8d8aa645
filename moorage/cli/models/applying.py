"""`moor models apply`: the documents of a file, checked together, declared one after the other."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moorage.cli.models.documents import Document, placed_faults, repeated, split
from moorage.cli.models.waiting import await_settled
from moorage.errors import MoorageError, UsageError

if TYPE_CHECKING:
    from moorage.cli.output import Output
    from moorage.client.serving.client import ServingClient

__all__ = ["apply"]

MOST_BYTES = 4 << 20
"""Of a whole file; a document of more than 256 KiB is refused by the server."""


def apply(args: argparse.Namespace, client: ServingClient, out: Output) -> dict[str, Any]:
    """`models`: what each document was answered; `plan` instead with `--dry-run`.

    Several documents are all checked before the first is declared.
    """
    file, content = _read(args.file)
    documents = split(content, file)
    if args.dry_run or len(documents) > 1:
        plans = _plans(documents, file, client, create_only=bool(args.create_only))
        if args.dry_run:
            return {"plan": plans}
    answers: list[dict[str, Any]] = []
    for document in documents:
        try:
            answers.append(client.declare(document.content, create_only=bool(args.create_only)).raw)
        except MoorageError as fault:
            raise _told(fault, document, file, answers) from None
    if args.wait is not None:
        keys = list(dict.fromkeys(answer["model_key"] for answer in answers))
        return {"models": [detail.model.raw for detail in await_settled(client, keys, args.wait, out)]}
    return {"models": answers}


def _plans(documents: list[Document], file: str, client: ServingClient, *, create_only: bool) -> list[dict[str, Any]]:
    """What each would do. Raises the first fault, with those of all documents in `data["faults"]`."""
    plans: list[dict[str, Any]] = []
    faults: list[MoorageError] = []
    for document in documents:
        try:
            plans.append(client.plan(document.content, create_only=create_only).raw)
        except UsageError as fault:
            faults.append(_told(fault, document, file, []))
    if not faults:
        _refuse_repeated(documents, file)
        return plans
    first = faults[0]
    first.data = {**(first.data or {}), "faults": [one for fault in faults for one in (fault.data or {})["faults"]]}
    raise first


def _refuse_repeated(documents: list[Document], file: str) -> None:
    """Raises UsageError: of two specs of one model the second would undo the first."""
    twice = repeated(documents)
    if twice is None:
        return
    first, second, model_id = twice
    message = f"{second.name}: {first.name} declares {model_id!r} too"
    fault = UsageError(message, code="model_repeated", hint="a file declares a model once")
    said = {"pointer": "/model_id", "detail": f"declared twice: {model_id}", "code": fault.code, "hint": fault.hint}
    fault.data = {"faults": placed_faults(second, file, [said])}
    raise fault


def _told(fault: MoorageError, document: Document, file: str, done: list[dict[str, Any]]) -> MoorageError:
    """The API's fault with lines of the file, and with what was declared before it."""
    data = dict(fault.data or {})
    errors = data.pop("errors", None) or []
    if isinstance(fault, UsageError):
        whole = [{"pointer": "", "detail": fault.message, "code": fault.code}]
        data["faults"] = placed_faults(document, file, errors or whole)
    elif errors:
        data["faults"] = placed_faults(document, file, errors)
    if done:
        data["models"] = done
    fault.data = data
    if document.name != file:
        fault.message = f"{document.name}: {fault.message}"
    return fault


def _read(file: str) -> tuple[str, bytes]:
    """(its name in messages, its bytes). Raises UsageError."""
    if file == "-":
        return "<stdin>", _whole("<stdin>", sys.stdin.buffer.read(MOST_BYTES + 1))
    try:
        with Path(file).open("rb") as opened:
            return file, _whole(file, opened.read(MOST_BYTES + 1))
    except (OSError, ValueError) as fault:
        reason = fault.strerror if isinstance(fault, OSError) else str(fault)
        raise UsageError(f"{file!r} cannot be read: {reason}", code="spec_unreadable") from None


def _whole(name: str, content: bytes) -> bytes:
    if len(content) > MOST_BYTES:
        raise UsageError(f"{name} is larger than {MOST_BYTES >> 20} MiB", code="spec_too_large")
    return content
