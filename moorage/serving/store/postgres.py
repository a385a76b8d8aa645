"""A schema of a PostgreSQL database: how connections to it are opened. The driver is SQLAlchemy's to import."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.exc import DBAPIError

from moorage.errors import PreflightError
from moorage.serving.store.database import Database

__all__ = ["PostgresSchema"]

_SCHEMA = "moorage_serving"
_DEFAULTS = {
    "application_name": ("moorage", "PGAPPNAME"),
    "connect_timeout": ("5", "PGCONNECT_TIMEOUT"),
    "keepalives_idle": ("10", ""),
    "keepalives_interval": ("5", ""),
    "keepalives_count": ("3", ""),
    "tcp_user_timeout": ("15000", ""),
    # Of several hosts the one that can be written, and a standby is refused at once.
    "target_session_attrs": ("read-write", "PGTARGETSESSIONATTRS"),
}
"""For libpq, and the variable that says it too."""
_SETTINGS = """
    SELECT set_config('synchronous_commit', CASE current_setting('synchronous_commit') WHEN 'off' THEN 'on'
            ELSE current_setting('synchronous_commit') END, false),
        set_config('lock_timeout', %s, false), set_config('statement_timeout', '30s', false),
        set_config('idle_in_transaction_session_timeout', '20s', false),
        set_config('client_min_messages', 'error', false),
        set_config('search_path', CASE WHEN current_setting('search_path') LIKE '"$user"%%' THEN %s
            ELSE split_part(current_setting('search_path'), ',', 1) END, false)
"""
_OLDEST = 120000


class PostgresSchema:
    """`moorage_serving`, unless the URL's options name a `search_path`: then the first one there, and no other."""

    def __init__(self, url: str, shown: str, environ: Mapping[str, str], patience_s: float) -> None:
        """`shown`: the URL without what is secret."""
        self._url = url
        self.shown = shown
        self._environ = environ
        self._patience_s = patience_s

    def open(self) -> Engine:
        """An engine whose transactions are alone once they locked. Raises PreflightError."""
        engine = create_engine(
            "postgresql+psycopg://",
            pool_size=5,
            max_overflow=11,
            pool_timeout=self._patience_s,
            pool_pre_ping=True,
            pool_use_lifo=True,
            isolation_level="READ COMMITTED",
            hide_parameters=True,
        )
        event.listen(engine, "do_connect", self._connect)
        try:
            with engine.connect() as db:
                encoding, version = db.execute(
                    text("SELECT current_setting('server_encoding'), current_setting('server_version_num')")
                ).one()
        except DBAPIError as fault:
            raise self.unusable(fault) from fault
        if encoding != "UTF8" or int(version) < _OLDEST:
            raise PreflightError(
                f"{self.shown} is PostgreSQL {version} with encoding {encoding}: 12 or newer and UTF8 are needed",
                code="store_unusable",
                hint="make the database with ENCODING 'UTF8'",
            )
        return engine

    def database(self, engine: Engine) -> Database:
        """For an engine of `open` whose schema is the newest."""
        reads = engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
        return Database(reads, engine, self.shown, patience_s=self._patience_s * 1.5, check=_nothing)

    def unusable(self, cause: BaseException) -> PreflightError:
        """What a user is told of a database that cannot be opened."""
        origin = cause.orig if isinstance(cause, DBAPIError) else cause
        words = " ".join(str(origin).split())
        read_only = "read-only" in words or getattr(origin, "sqlstate", "") in ("25006", "42501")
        hint = "look whether the server runs and can be reached, and at its log"
        if "password" in words or "authentication" in words:
            hint = "give the password in PGPASSWORD or PGPASSFILE, and look at pg_hba.conf"
        if read_only:
            hint = (
                "name a server that can be written, and give the role CREATE on the database, or make it own the schema"
            )
        return PreflightError(
            f"the store {self.shown} cannot be opened: {words}",
            code="store_read_only" if read_only else "store_unusable",
            hint=hint,
        )

    def _connect(self, dialect: Any, _record: Any, _arguments: Any, _words: Any) -> Any:
        driver = dialect.loaded_dbapi
        words = {name: value for name, (value, variable) in _DEFAULTS.items() if variable not in self._environ}
        words.update(driver.conninfo.conninfo_to_dict(self._url))
        db = driver.connect(**words)
        try:
            db.execute(_SETTINGS, (f"{self._patience_s:g}s", _SCHEMA))
            db.commit()
        except BaseException:
            db.close()
            raise
        return db


def _nothing(_db: Connection) -> None:
    """What a server acknowledged is there."""
