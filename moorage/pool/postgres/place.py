"""The database: how its URL is read and shown, how connections to it are opened, and what users are told of it."""

from __future__ import annotations

import re
from collections.abc import Mapping

from psycopg import Error, conninfo

from moorage.errors import PreflightError, UsageError
from moorage.pool.faults import StoreFault
from moorage.pool.postgres.dialling import dial
from moorage.pool.postgres.pipe import Pipe, Refused

__all__ = ["Place"]

LOCK_S = 10
"""How long a writer waits for other machines' transactions."""
_PATIENCE_S = 40.0
"""Above the server's own limit of a statement, so that the server's word comes first."""

_DEFAULTS = {
    "application_name": "moorage",
    "connect_timeout": "5",
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "15000",
    # Of several hosts the one that can be written, and a standby is refused at once.
    "target_session_attrs": "read-write",
}
_ENVIRONMENT = {"application_name": "PGAPPNAME", "connect_timeout": "PGCONNECT_TIMEOUT"}
_ENVIRONMENT["target_session_attrs"] = "PGTARGETSESSIONATTRS"
_SETTINGS = f"""
    SELECT set_config('synchronous_commit', CASE current_setting('synchronous_commit') WHEN 'off' THEN 'on'
            ELSE current_setting('synchronous_commit') END, false),
        set_config('default_transaction_isolation', 'read committed', false),
        set_config('lock_timeout', '{LOCK_S}s', false), set_config('statement_timeout', '30s', false),
        set_config('idle_in_transaction_session_timeout', '20s', false),
        set_config('client_min_messages', 'error', false), pg_backend_pid(),
        (SELECT CAST(backend_start AS TEXT) FROM pg_stat_activity WHERE pid = pg_backend_pid()),
        current_setting('search_path'), current_setting('server_encoding'), current_setting('server_version_num')
"""  # noqa: S608
_DEFAULT_PATH = '"$user", public'
_SCHEMA = "moorage"
_OLDEST = 120000


class Place:
    """One schema of one database: `moorage`, unless the URL's options name a `search_path`."""

    def __init__(self, url: str, environ: Mapping[str, str], *, read_only: bool = False) -> None:
        """`read_only`: a standby will do. Raises UsageError; no message has the password, or what may be part of it."""
        self.patience_s = _PATIENCE_S
        self._words, self.shown = _read(url, environ)
        timeout = self._words.get("connect_timeout", environ.get("PGCONNECT_TIMEOUT", ""))
        self._connect_s = float(timeout) if timeout.isdigit() else 5.0
        if read_only and self._words.get("target_session_attrs") == _DEFAULTS["target_session_attrs"]:
            del self._words["target_session_attrs"]
        self.schema = _SCHEMA

    def connect(self) -> Pipe:
        """Raises Lost, Refused."""
        pipe = Pipe(dial(self._words, self._connect_s), self.patience_s)
        try:
            row = pipe.execute(_SETTINGS).fetchone()
            *_, pid, started, path, encoding, version = row
            pipe.session = (pid, started)
            if path == _DEFAULT_PATH:
                pipe.execute(f"SET search_path TO {_SCHEMA}")
            else:
                self.schema = path.split(",")[0].strip().strip('"')
            pipe.finish()
            if encoding != "UTF8" or int(version) < _OLDEST:
                raise PreflightError(
                    f"{self.shown} is PostgreSQL {version} with encoding {encoding}: 12 or newer and UTF8 are needed",
                    code="store_unusable",
                    hint="make the database with ENCODING 'UTF8'",
                )
        except BaseException:
            pipe.close()
            raise
        return pipe

    def fault(self, cause: BaseException) -> StoreFault:
        """What a user is told when the database cannot be used now. Nothing of the write was kept."""
        if isinstance(cause, StoreFault):
            return StoreFault(cause.message, code=cause.code, hint=cause.hint)
        return StoreFault(f"the store {self.shown} cannot be used: {cause}", hint=_hint(cause))

    def unusable(self, cause: BaseException | None) -> PreflightError:
        """What a user is told of a database that cannot be opened."""
        if isinstance(cause, StoreFault):
            return PreflightError(cause.message, code=cause.code, hint=cause.hint)
        read_only = "read-only" in str(cause) or (isinstance(cause, Refused) and cause.sqlstate in ("25006", "42501"))
        return PreflightError(
            f"the store {self.shown} cannot be opened: {cause}",
            code="store_read_only" if read_only else "store_unusable",
            hint=_hint(cause),
        )


def _read(url: str, environ: Mapping[str, str]) -> tuple[dict[str, str], str]:
    """The connection's parameters for libpq, and the URL as it is shown."""
    if not re.fullmatch(r"postgres(ql)?://[^@/?#]*(@[^@]*)?|postgres(ql)?://[^@]*", url, re.DOTALL):
        raise UsageError(
            "--db: what stands before the last @ of this postgresql:// URL cannot be told apart",
            code="bad_value",
            hint="write @ : / ? # of a user or a password as %40 %3A %2F %3F %23, or give the password in PGPASSWORD",
        )
    try:
        given = conninfo.conninfo_to_dict(url)
        words = {name: str(value) for name, value in given.items() if value is not None}
        for name, value in _DEFAULTS.items():
            if _ENVIRONMENT.get(name, "") not in environ:
                words.setdefault(name, value)
    except (Error, UnicodeDecodeError):
        words = {}
    if not words or not re.fullmatch(r"[0-9,]*", words.get("port", "")):
        raise UsageError(
            "--db: this postgresql:// URL cannot be read",  # libpq's own words may hold a part of the password
            code="bad_value",
            hint="postgresql://USER@HOST:PORT/DATABASE?sslmode=verify-full; write % of a password as %25",
        )
    user = f"{words['user']}@" if "user" in words else ""
    port = f":{words['port']}" if "port" in words else ""
    return words, f"postgresql://{user}{words.get('host', '')}{port}/{words.get('dbname', '')}"


def _hint(cause: BaseException | None) -> str:
    sqlstate = cause.sqlstate if isinstance(cause, Refused) else ""
    for begins, hint in _HINTS.items():
        if sqlstate.startswith(begins):
            return hint
    text = str(cause)
    if "read-only" in text or "hot standby" in text:
        return _HINTS["25006"]
    if "password" in text or "authentication" in text:
        return "give the password in PGPASSWORD or PGPASSFILE, and look at pg_hba.conf"
    return "nothing was kept; look whether the server runs and can be reached, and at its log"


_HINTS = {
    "25006": "nothing was kept: this server is a standby or read-only; name the primary, or several hosts",
    "42501": "give the role of the URL CREATE on the database, or own the schema",
    "42P": "nothing was kept: the schema is not what it was when it was opened; restart the gateway",
    "53100": "nothing was kept: the server's disk is full",
    "53": "nothing was kept: the server has no room or no connections left",
    "55P03": f"nothing was kept: another gateway held the store for {LOCK_S} s",
    "57014": "nothing was kept: the server took too long",
}
