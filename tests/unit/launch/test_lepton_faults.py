"""What the SDK's exceptions mean: tables, without the SDK."""

from __future__ import annotations

import pytest

from moorage.errors import ConflictError, MoorageError, PlatformUnreachable, PreflightError, TryAgainError
from moorage.launch.platforms.lepton.faults import answer_words, error_of, status_of

HOST = "workspace.example"


class Answer:
    """As much of requests' response as is looked at."""

    def __init__(self, status_code: object, text: object = "") -> None:
        self.status_code = status_code
        self.text = text


class ClientError(RuntimeError):
    def __init__(self, answer: object) -> None:
        super().__init__("Client error: Bearer canary-0123456789")
        self.response = answer


class WorkspaceUnauthorizedError(RuntimeError):
    """Named as the SDK's, which carries no answer."""


@pytest.mark.parametrize(
    ("status", "words", "kind", "code"),
    [
        (401, "", PreflightError, "login_refused"),
        (403, "read only", PreflightError, "forbidden"),
        (403, "quota of gpu exceeded", TryAgainError, "no_capacity"),
        (400, "insufficient resources", TryAgainError, "no_capacity"),
        (400, "bad image", PreflightError, "lepton_refused"),
        (404, "no such workspace", PreflightError, "lepton_refused"),
        (409, "exists", ConflictError, "name_taken"),
        (429, "slow down", TryAgainError, "lepton_busy"),
        (500, "boom", PlatformUnreachable, "lepton_trouble"),
        (503, "quota service is down", PlatformUnreachable, "lepton_trouble"),
    ],
)
def test_each_status(status: int, words: str, kind: type[MoorageError], code: str) -> None:
    error = error_of(ClientError(Answer(status, f'{{"code": "X", "message": "{words}"}}')), "creating x", host=HOST)
    assert (type(error), error.code) == (kind, code)
    assert words in error.message
    assert "canary" not in error.message


@pytest.mark.parametrize(
    ("fault", "code", "words"),
    [
        (OSError("HTTPConnectionPool: [Errno 111] Connection refused'))"), "lepton_unreachable", "Connection refused"),
        (OSError("Read timed out. (read timeout=5)"), "lepton_unreachable", "it took too long"),
        (OSError("('Connection aborted.', RemoteDisconnected('x'))"), "lepton_unreachable", "OSError"),
        (ConnectionResetError("secret-in-text"), "lepton_unreachable", "ConnectionResetError"),
        (RuntimeError("*** begin of debug info *** canary"), "lepton_bad_reply", "RuntimeError"),
        (KeyError("canary"), "lepton_bad_reply", "KeyError"),
        (WorkspaceUnauthorizedError("to****en"), "login_refused", "401"),
    ],
)
def test_no_answer_and_odd_answers(fault: Exception, code: str, words: str) -> None:
    error = error_of(fault, "listing endpoints", host=HOST)
    assert error.code == code
    assert words in error.message
    assert not {"canary", "secret-in-text", "to****en"} & set(error.message.split())


def test_words_are_on_one_line_short_and_without_what_was_sent() -> None:
    hidden = ["canary", 'quo"ted']
    assert answer_words(ClientError(Answer(400, 'a\n b canary quo"ted')), hidden) == "a b *** ***"
    assert answer_words(ClientError(Answer(400, '{"message": "canary \\"x\\""}')), hidden) == '*** "x"'
    assert answer_words(ClientError(Answer(400, '["canary"]')), hidden) == '["***"]'
    assert len(answer_words(ClientError(Answer(400, "x" * 9999)))) == 301
    assert answer_words(ClientError(Answer(400, None))) == ""
    assert answer_words(ValueError("x")) == ""


def test_the_status_is_a_number_or_nothing() -> None:
    assert status_of(ClientError(Answer("400"))) is None
    assert status_of(ValueError()) is None
    assert status_of(WorkspaceUnauthorizedError()) == 401
