"""What is checked of certificate files before they are used, by a clock that the test sets."""

from __future__ import annotations

import io
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from moorage.errors import PreflightError
from moorage.gateway.auth.tls import Tls
from moorage.gateway.log import Log

DAY_S = 86400.0


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Good for 30 days."""
    folder = tmp_path_factory.mktemp("files")
    certificate, key = folder / "gate.pem", folder / "gate.key"
    words = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", certificate]
    subprocess.run([*words, "-subj", "/CN=gate.example", "-days", "30"], check=True, capture_output=True)
    return certificate, key


def said_at(files: tuple[Path, Path], clock: Callable[[], float]) -> str:
    out = io.StringIO()
    Tls(*files, clock=clock, log=Log(out))
    return out.getvalue()


def test_a_good_pair_is_taken_without_a_word(files: tuple[Path, Path]) -> None:
    assert said_at(files, time.time) == ""


def test_one_that_has_expired_is_not(files: tuple[Path, Path]) -> None:
    with pytest.raises(PreflightError) as caught:
        said_at(files, lambda: time.time() + 31 * DAY_S)
    assert caught.value.code == "tls_expired"


def test_one_that_runs_out_soon_is_warned_of(files: tuple[Path, Path]) -> None:
    assert said_at(files, lambda: time.time() + 20 * DAY_S).count('"tls_expires_soon"') == 1


def test_one_that_is_not_good_yet_is_warned_of(files: tuple[Path, Path]) -> None:
    """Clocks differ: it may be good for the clients."""
    assert said_at(files, lambda: time.time() - DAY_S).count('"tls_not_yet_good"') == 1


def test_reading_again_keeps_the_old_one_when_the_new_is_wrong(files: tuple[Path, Path], tmp_path: Path) -> None:
    certificate, key = (Path(tmp_path / path.name) for path in files)
    certificate.write_bytes(files[0].read_bytes())
    key.write_bytes(files[1].read_bytes())
    key.chmod(0o600)
    out = io.StringIO()
    tls = Tls(certificate, key, clock=time.time, log=Log(out))
    before = tls._current
    key.write_text("nothing")
    tls.reload()
    assert tls._current is before
    assert '"tls_unreadable"' in out.getvalue()
    key.write_bytes(files[1].read_bytes())
    tls.reload()
    assert tls._current is not before
    assert '"tls_reloaded"' in out.getvalue()
