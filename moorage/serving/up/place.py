"""Where one machine's control plane keeps its files: one folder for its owner alone."""

from __future__ import annotations

import fcntl
import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from moorage.errors import PreflightError
from moorage.launch.places import state_folder
from moorage.launch.platforms.base import Report

__all__ = ["Place"]

TOKEN_BYTES = 32


class Place:
    """The folder and what is in it. Nothing is made before it is asked for."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self.folder = Path(state_folder(environ, "serve"))

    @property
    def record(self) -> Path:
        return self.folder / "serve.json"

    @property
    def config(self) -> Path:
        return self.folder / "config.yaml"

    @property
    def root(self) -> Path:
        """Where models lie when nobody says where."""
        return self.folder / "private"

    @property
    def db(self) -> str:
        return f"sqlite:///{self.folder / 'serving.db'}"

    @property
    def gateway_db(self) -> str:
        return f"sqlite:///{self.folder / 'gateway.db'}"

    def log(self, part: str) -> Path:
        return self.folder / f"{part}.log"

    def token_file(self, whose: str) -> Path:
        """Of `admin`, `gateway` or `user`."""
        return self.folder / f"{whose}-token"

    def token(self, whose: str) -> str | None:
        """What that file holds; None when there is none. Raises PreflightError when others can read it."""
        path = self.token_file(whose)
        try:
            handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        except OSError as fault:
            raise _unusable(path, fault.strerror or "cannot be opened") from fault
        with os.fdopen(handle, encoding="utf-8", errors="replace") as file:
            found = os.fstat(file.fileno())
            if found.st_uid != os.geteuid() or found.st_mode & 0o077:
                raise _unusable(path, "others can read it, or it is another user's")
            return file.read().strip() or None

    def made_token(self, whose: str) -> str:
        """The token that is kept, made when there is none yet."""
        kept = self.token(whose)
        if kept is None:
            kept = secrets.token_urlsafe(TOKEN_BYTES)
            self.keep_token(whose, kept)
        return kept

    def keep_token(self, whose: str, token: str) -> None:
        """Write it, for the owner alone."""
        self.write(self.token_file(whose), f"{token}\n")

    def write(self, path: Path, text: str) -> None:
        """A file for the owner alone, at once whole. Raises PreflightError when it cannot be written."""
        temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}")
        try:
            handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except OSError as fault:
            temporary.unlink(missing_ok=True)
            raise _unusable(path, fault.strerror or "cannot be written") from fault

    def make(self) -> None:
        """The folder. Raises PreflightError when it cannot be made, or is another user's."""
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            found = self.folder.stat()
            if found.st_uid != os.geteuid():
                raise _unusable(self.folder, "it belongs to another user")
            self.folder.chmod(0o700)
        except OSError as fault:
            raise _unusable(self.folder, fault.strerror or "cannot be made") from fault

    @contextmanager
    def alone(self, report: Report) -> Iterator[None]:
        """While no other command of this folder is at work; waits for one that is."""
        handle = os.open(self.folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                report("wait", "another moor serve up or down is at work here")
                fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)


def _unusable(path: Path, why: str) -> PreflightError:
    return PreflightError(
        f"{path} is of no use: {why}",
        code="serve_folder",
        hint="make it yours alone, or set XDG_STATE_HOME to a folder of your own",
    )
