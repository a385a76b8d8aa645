"""What people and programs think of single steps: curation marks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import msgspec

from moorage.gateway.http.faults import BodyWrong
from moorage.gateway.http.reply import Reply, json_reply
from moorage.gateway.http.request import Request
from moorage.pool.marks import check_marks

if TYPE_CHECKING:
    from moorage.gateway.gateway import Gateway

__all__ = ["MarksBody", "marks"]


class MarksBody(msgspec.Struct, frozen=True):
    trajectory_uid: str
    step_index: Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
    marks: dict[str, Any]


async def marks(gateway: Gateway, request: Request) -> Reply:
    """`POST /pool/marks`: set some marks of a step, null takes one away; all that it has now."""
    body = request.decode(MarksBody)
    if not body.marks:
        raise BodyWrong("at least one mark", "/marks")
    check_marks(body.marks)
    now = await gateway.store.mark(body.trajectory_uid, body.step_index, body.marks)
    return json_reply({"trajectory_uid": body.trajectory_uid, "step_index": body.step_index, "marks": now})
