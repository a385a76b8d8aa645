"""Fields that engines are told of in other words."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from moorage.engines.sglang.ask import generate_request
from moorage.engines.trl.ask import tokens_request
from moorage.engines.vllm.generate import generate_body
from moorage.errors import UsageError

MAKERS: list[Callable[..., object]] = [generate_request, tokens_request, generate_body]
WRONG = [
    b'"response_format":{"type":"json_schema","json_schema":"x"}',
    b'"response_format":{"type":"json_schema","json_schema":{"schema":{"maximum":1e999}}}',
    b'"response_format":1e999',
]


@pytest.mark.parametrize("made", MAKERS)
@pytest.mark.parametrize("said", WRONG)
def test_what_no_engine_can_be_told_is_a_fault_of_the_request(made: Callable[..., object], said: bytes) -> None:
    with pytest.raises(UsageError) as caught:
        made(b'{"messages":[],' + said + b"}", b"", model="m")
    assert caught.value.code == "body_wrong"
