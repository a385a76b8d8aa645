"""Whether the lost tunnel of a living service may be started again."""

from __future__ import annotations

from typing import Any

import pytest

from moorage.launch.mending import may_mend

LIVES, ENDED = {"pid": 1, "started": "now"}, {"pid": 2, "started": "before"}
THEN, LATER = "2026-01-01T00:00:00+00:00", "2026-01-02T00:00:00+00:00"
TUNNEL = {"pid": 3, "state": "up"}


@pytest.mark.parametrize(
    ("fields", "may"),
    [
        ({}, True),
        ({"tunnel": TUNNEL}, True),
        ({"starter": LIVES}, False),  # it is about to begin its tunnel
        ({"starter": ENDED}, True),
        ({"starter": LIVES, "tunnel": TUNNEL}, True),  # it waits until the service is ready
        ({"tunnel": TUNNEL, "stop_requested_at": LATER}, False),
        ({"stop_requested_at": LATER}, False),
        ({"tunnel": TUNNEL, "stop_requested_at": None}, True),
        ({"tunnel": TUNNEL, "started_at": LATER}, False),  # another service by now, with the same id
    ],
)
def test_only_what_lives_and_is_not_being_stopped(fields: dict[str, Any], may: bool) -> None:
    asked = {"job_id": "a", "started_at": THEN, "tunnel": TUNNEL}
    recorded = {"job_id": "a", "started_at": THEN, **fields}
    assert may_mend(recorded, asked, runs=lambda field: field is LIVES) is may
