"""The key of services: from the variable, else from a file that is the owner's alone."""

from __future__ import annotations

import os
import stat
import threading
from pathlib import Path

import pytest

from moorage.errors import PreflightError
from moorage.launch.service_key import auth_headers, service_key

CANARY = "canary-0123456789"


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    return {"MOORAGE_STATE_FILE": str(tmp_path / "state.json")}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "state.json.lepton-token"


def test_the_variable_comes_first_and_makes_no_file(environ: dict[str, str], file: Path) -> None:
    assert service_key("MY_KEY", {**environ, "MY_KEY": CANARY}, make=True) == CANARY
    assert not file.exists()


def test_one_is_made_once_for_the_owner_alone(environ: dict[str, str], file: Path) -> None:
    key = service_key("MY_KEY", environ, make=True)
    assert len(key) >= 40
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert service_key("OTHER", {**environ, "OTHER": ""}, make=True) == key
    assert service_key("MY_KEY", environ, make=False) == key
    assert [path.name for path in file.parent.iterdir()] == [file.name]


def test_without_one_the_error_names_the_variable(environ: dict[str, str], file: Path) -> None:
    with pytest.raises(PreflightError, match="MY_KEY is not set") as caught:
        service_key("MY_KEY", environ, make=False)
    assert (caught.value.code, file.exists()) == ("service_key_missing", False)


def test_starts_at_once_get_the_same_key(environ: dict[str, str]) -> None:
    keys: list[str] = []
    gate = threading.Barrier(8)

    def one() -> None:
        gate.wait()
        keys.append(service_key("MY_KEY", environ, make=True))

    threads = [threading.Thread(target=one) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(keys), len(set(keys))) == (8, 1)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o666])
def test_a_file_that_others_can_read_is_refused(environ: dict[str, str], file: Path, mode: int) -> None:
    file.write_text(CANARY)
    file.chmod(mode)
    check_refused(environ, "can be read by others")


def test_a_link_is_not_followed(environ: dict[str, str], file: Path, tmp_path: Path) -> None:
    target = tmp_path / "elsewhere"
    target.write_text(CANARY)
    target.chmod(0o600)
    file.symlink_to(target)
    check_refused(environ, "is of no use")
    assert target.read_text() == CANARY


def test_a_pipe_a_folder_and_a_strange_owner_are_refused(environ: dict[str, str], file: Path) -> None:
    file.mkdir()
    check_refused(environ, "is of no use")
    file.rmdir()
    os.mkfifo(file, 0o600)
    check_refused(environ, "is not a plain file")
    file.unlink()
    if os.getuid() == 0:
        file.write_text(CANARY)
        file.chmod(0o600)
        os.chown(file, 12345, 12345)
        check_refused(environ, "belongs to another user")


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    with pytest.raises(PreflightError) as caught:
        service_key("MY_KEY", {"MOORAGE_STATE_FILE": str(tmp_path / "none" / "state.json")}, make=True)
    assert caught.value.code == "service_key_file"


@pytest.mark.parametrize("value", [f"{CANARY}\nX-Other: 1", f" {CANARY}", f"{CANARY}é", f"{CANARY}\0", "x" * 5000])
def test_what_cannot_stand_in_a_header_is_refused_and_not_shown(environ: dict[str, str], value: str) -> None:
    with pytest.raises(PreflightError) as caught:
        service_key("MY_KEY", {**environ, "MY_KEY": value}, make=True)
    assert caught.value.code == "service_key_bad"
    assert "MY_KEY" in caught.value.message
    assert CANARY not in f"{caught.value!r} {caught.value.hint} {caught.value.__cause__!r}"


def test_headers_are_for_services_with_a_key(environ: dict[str, str]) -> None:
    known = {**environ, "MY_KEY": CANARY}
    assert auth_headers({"token_env": "MY_KEY"}, known) == {"Authorization": f"Bearer {CANARY}"}
    for entry in ({}, {"token_env": None}, {"token_env": ""}, {"token_env": 7}):
        assert auth_headers(entry, known) == {}
    with pytest.raises(PreflightError):
        auth_headers({"token_env": "MY_KEY"}, environ)


def check_refused(environ: dict[str, str], words: str) -> None:
    for make in (True, False):
        with pytest.raises(PreflightError, match=words) as caught:
            service_key("MY_KEY", environ, make=make)
        assert caught.value.code == "service_key_file"
        assert CANARY not in repr(caught.value)
