"""What makes two requests the same one."""

from __future__ import annotations

import pytest

from moorage.traces.replaying.asked import sampling_fields


def test_null_is_as_absent_and_a_whole_float_as_its_integer() -> None:
    assert sampling_fields(b"") == sampling_fields(b'{"seed":null,"user":"me"}') == {}
    assert sampling_fields(b'{"temperature":1.0}') == sampling_fields(b'{"temperature":1}')


@pytest.mark.parametrize("text", ["1e999", '{"a":[1e999]}'])
def test_a_number_that_no_float_holds_is_kept_as_its_text(text: str) -> None:
    """A gateway records the fields that it does not know as they came."""
    assert sampling_fields(b'{"mine":%b,"seed":7}' % text.encode()) == {"mine": text, "seed": 7}
