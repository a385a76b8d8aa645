"""Results on stdout, talk on stderr, errors once: for programs, for people, and when nobody listens."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest

from moorage.cli.output import Output, table
from moorage.errors import FailedError, UsageError


class Broken(io.StringIO):
    """A pipe whose reader has gone."""

    def write(self, text: str) -> int:
        raise BrokenPipeError


class Ascii(io.StringIO):
    """A stream that takes ASCII alone."""

    encoding = "ascii"

    def write(self, text: str) -> int:
        text.encode("ascii")
        return super().write(text)


def opened(*, as_json: bool, stdout: Any = None, stderr: Any = None) -> tuple[Output, io.StringIO, io.StringIO]:
    out, err = stdout or io.StringIO(), stderr or io.StringIO()
    return Output(as_json=as_json, stdout=out, stderr=err), out, err


def show(data: dict[str, Any], out: Output) -> None:
    out.line(f"value {data['value']}")


FAULT = FailedError(
    "it died",
    code="service_died",
    hint="look",
    next=["moor logs x"],
    data={
        "log_tail": ["first", "last"],
        "faults": [{"file": "a.yaml", "line": 3, "message": "wrong", "hint": "right"}],
    },
)


def test_for_programs_there_is_one_object() -> None:
    output, out, err = opened(as_json=True)
    output("wait", "loading", done_bytes=3)
    output.talk("a note")
    output.line("not shown")
    output.success({"value": "ü"}, show)
    assert json.loads(out.getvalue()) == {"ok": True, "data": {"value": "ü"}}
    event, note = (json.loads(line) for line in err.getvalue().splitlines())
    assert event.pop("elapsed_s") >= 0
    assert event == {"event": "wait", "message": "loading", "done_bytes": 3}
    assert note == {"event": "note", "message": "a note"}


def test_for_people_there_are_lines() -> None:
    output, out, err = opened(as_json=False)
    output("wait", "loading")
    output.talk("a note")
    output.success({"value": 1}, show)
    assert out.getvalue() == "value 1\n"
    assert err.getvalue().endswith("wait     loading\na note\n")


def test_an_error_tells_all_that_helps() -> None:
    output, out, err = opened(as_json=False)
    assert output.failure(FAULT) == 8
    assert out.getvalue() == ""
    assert err.getvalue().splitlines() == [
        "error: it died",
        "  | first",
        "  | last",
        "  a.yaml:3 : wrong (right)",
        "hint:  look",
        "next:  moor logs x",
    ]
    output, out, err = opened(as_json=True)
    assert output.failure(FAULT) == 8
    assert json.loads(out.getvalue()) == {
        "ok": False,
        "error": {"code": "service_died", "message": "it died", "hint": "look", "next": ["moor logs x"]},
        "data": FAULT.data,
    }
    assert err.getvalue() == ""


def test_an_error_without_data_has_none() -> None:
    output, out, _ = opened(as_json=True)
    output.failure(UsageError("no"))
    assert set(json.loads(out.getvalue())) == {"ok", "error"}
    assert set(json.loads(out.getvalue())["error"]) == {"code", "message", "hint", "next"}


def test_streams_are_items_for_programs_and_text_for_people() -> None:
    output, out, _ = opened(as_json=True)
    output.stream("delta", "a\nb")
    output.stream("line", "c")
    assert [json.loads(line) for line in out.getvalue().splitlines()] == [{"delta": "a\nb"}, {"line": "c"}]
    output, out, _ = opened(as_json=False)
    output.stream("delta", "a")
    output.stream("delta", "b\n")
    output.stream("line", "c")
    assert out.getvalue() == "ab\nc\n"


@pytest.mark.parametrize("as_json", [True, False])
def test_nobody_listens_to_the_talk(as_json: bool) -> None:
    output, out, _ = opened(as_json=as_json, stderr=Broken())
    output("wait", "loading")
    output.talk("a note")
    output.success({"value": 1}, show)
    assert out.getvalue()
    assert output.failure(FAULT) == 8


@pytest.mark.parametrize("as_json", [True, False])
def test_nobody_reads_the_result(as_json: bool) -> None:
    output, _, _ = opened(as_json=as_json, stdout=Broken())
    with pytest.raises(BrokenPipeError):
        output.success({"value": 1}, show)
    assert output.failure(FAULT) == 8


def test_what_cannot_be_written_is_escaped() -> None:
    output, out, err = opened(as_json=False, stdout=Ascii(), stderr=Ascii())
    output.line("grüße \udcff")
    output.talk("模型")
    output.help("…")
    assert out.getvalue() == "gr\\xfc\\xdfe \\udcff\n\\u2026\n"
    assert err.getvalue() == "\\u6a21\\u578b\n"


def test_columns() -> None:
    assert table([["A", "LONG"], ["abc", ""]]) == ["A    LONG", "abc"]
    assert table([]) == []
