"""The tables, and how a file gets them: migrations are only ever added to the list.

Calls are written once and never changed. What is said of them later (which is the last, its reward) stands in their
trajectory's row. `groups.waiting` counts complete trajectories that no round has, `groups.oldest_policy` is the lowest
policy_version of their steps. `calls.id` and `events.id` are one sequence, the order of commits: a call needs no event.
`store.number` says where that sequence goes on when its end was removed, `store.removals` how often rows were removed,
`store.tag` which store it is. `tallies` is what is counted (`moorage.pool.sql.tallies`), `groups.running` how many of a
group's trajectories are open. `leavings`, `uses` and `loose` belong to what goes (`moorage.pool.sql.leaving`, `uses`).
"""

from __future__ import annotations

import sqlite3

from moorage.errors import PreflightError

__all__ = ["MIGRATIONS", "migrate"]

MIGRATIONS: tuple[tuple[str, str], ...] = (
    (
        "first",
        """
        CREATE TABLE trajectories (
            id INTEGER PRIMARY KEY, uid TEXT NOT NULL UNIQUE, kind TEXT NOT NULL, state TEXT NOT NULL,
            prompt_uid TEXT, offered_prompt_uid TEXT, channel TEXT, channel_fixed INTEGER NOT NULL,
            metadata BLOB NOT NULL, options BLOB NOT NULL, created_at REAL NOT NULL, completed_at REAL,
            version INTEGER NOT NULL, top_step INTEGER NOT NULL, last_seq INTEGER, reward REAL,
            oldest_policy INTEGER, group_id INTEGER, round_id INTEGER
        );
        CREATE INDEX trajectories_group ON trajectories (group_id);
        CREATE INDEX trajectories_waiting ON trajectories (group_id) WHERE round_id IS NULL AND state = 'complete';
        CREATE INDEX trajectories_round ON trajectories (round_id) WHERE round_id IS NOT NULL;
        CREATE TABLE calls (
            id INTEGER PRIMARY KEY, trajectory INTEGER NOT NULL, seq INTEGER NOT NULL, step_index INTEGER NOT NULL,
            flags INTEGER NOT NULL, policy_version INTEGER NOT NULL, at REAL NOT NULL, reward REAL, content BLOB,
            hash BLOB NOT NULL, record BLOB NOT NULL
        );
        CREATE UNIQUE INDEX calls_seq ON calls (trajectory, seq);
        CREATE UNIQUE INDEX calls_submitted ON calls (trajectory, step_index) WHERE content IS NOT NULL;
        CREATE INDEX calls_apart ON calls (trajectory, flags) WHERE flags > 0;
        CREATE TABLE pieces (id INTEGER PRIMARY KEY, data BLOB NOT NULL);
        CREATE TABLE extras (call INTEGER PRIMARY KEY, data BLOB NOT NULL);
        CREATE TABLE blobs (digest BLOB PRIMARY KEY, data BLOB NOT NULL) WITHOUT ROWID;
        CREATE TABLE marks (
            trajectory INTEGER NOT NULL, step_index INTEGER NOT NULL, marks BLOB NOT NULL,
            PRIMARY KEY (trajectory, step_index)
        ) WITHOUT ROWID;
        CREATE TABLE groups (
            id INTEGER PRIMARY KEY, channel TEXT NOT NULL, prompt_uid TEXT NOT NULL, waiting INTEGER NOT NULL,
            oldest_policy INTEGER, UNIQUE (channel, prompt_uid)
        );
        CREATE INDEX groups_waiting ON groups (channel, id) WHERE waiting > 0;
        CREATE TABLE rounds (
            id INTEGER PRIMARY KEY, group_id INTEGER NOT NULL, state TEXT NOT NULL, size INTEGER NOT NULL,
            oldest_policy INTEGER, attempts INTEGER NOT NULL, lease_id TEXT NOT NULL, expires_at REAL NOT NULL,
            not_before REAL NOT NULL
        );
        CREATE INDEX rounds_state ON rounds (state, group_id);
        CREATE TABLE leases (
            lease_id TEXT PRIMARY KEY, round_id INTEGER NOT NULL, attempt INTEGER NOT NULL, state TEXT NOT NULL,
            consumer TEXT, reason TEXT
        ) WITHOUT ROWID;
        CREATE TABLE events (
            id INTEGER PRIMARY KEY, type TEXT NOT NULL, channel TEXT NOT NULL, at REAL NOT NULL,
            trajectory_uid TEXT, prompt_uid TEXT, lease_id TEXT, consumer TEXT
        );
        """,
    ),
    (
        "state and keys",
        """
        CREATE TABLE state (name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
        CREATE TABLE keys (
            id INTEGER PRIMARY KEY, key_id TEXT NOT NULL UNIQUE, role TEXT NOT NULL, digest BLOB NOT NULL UNIQUE,
            note TEXT NOT NULL, created_at REAL NOT NULL, expires_at REAL, revoked_at REAL
        );
        """,
    ),
    (
        "store",
        """
        CREATE TABLE store (number INTEGER NOT NULL, removals INTEGER NOT NULL);
        INSERT INTO store VALUES (0, 0);
        """,
    ),
    (
        "tallies and retention",
        """
        ALTER TABLE store ADD COLUMN tag TEXT NOT NULL DEFAULT '';
        UPDATE store SET tag = lower(hex(randomblob(4)));
        ALTER TABLE groups ADD COLUMN running INTEGER NOT NULL DEFAULT 0;
        UPDATE groups SET running =
            (SELECT count(*) FROM trajectories t WHERE t.group_id = groups.id AND t.state = 'open');
        CREATE TABLE tallies (
            channel TEXT NOT NULL, what TEXT NOT NULL, size INTEGER NOT NULL, many INTEGER NOT NULL,
            PRIMARY KEY (channel, what, size)
        ) WITHOUT ROWID;
        INSERT INTO tallies SELECT coalesce(channel, 'train'), state, 0, count(*) FROM trajectories
            WHERE state <> 'deleted' GROUP BY 1, 2;
        INSERT INTO tallies SELECT channel, 'gathering', waiting, count(*) FROM groups
            WHERE waiting > 0 OR running > 0 GROUP BY 1, 3;
        INSERT INTO tallies SELECT g.channel, r.state, CASE r.state WHEN 'waiting' THEN r.size ELSE 0 END, count(*)
            FROM rounds r JOIN groups g ON g.id = r.group_id GROUP BY 1, 2, 3;
        CREATE TABLE progress (name TEXT PRIMARY KEY, upto INTEGER NOT NULL) WITHOUT ROWID;
        INSERT INTO progress VALUES ('calls', 0), ('uses', 0);
        CREATE TABLE leavings (trajectory INTEGER PRIMARY KEY);
        CREATE TABLE uses (
            digest BLOB NOT NULL, trajectory INTEGER NOT NULL, PRIMARY KEY (digest, trajectory)
        ) WITHOUT ROWID;
        CREATE INDEX uses_trajectory ON uses (trajectory);
        CREATE TABLE loose (digest BLOB PRIMARY KEY) WITHOUT ROWID;
        CREATE INDEX leases_round ON leases (round_id);
        CREATE INDEX events_trajectory ON events (trajectory_uid) WHERE trajectory_uid IS NOT NULL;
        CREATE INDEX events_lease ON events (lease_id) WHERE lease_id IS NOT NULL;
        CREATE INDEX rounds_delayed ON rounds (not_before) WHERE state = 'waiting';
        """,
    ),
    (
        "open sessions",
        "CREATE INDEX trajectories_sessions ON trajectories (id) WHERE kind = 'session' AND state <> 'deleted'",
    ),
)


def migrate(db: sqlite3.Connection, now: float, path: str) -> None:
    """Bring the file to the newest schema, in one transaction.

    Raises PreflightError for a file of a newer Moorage, and for an SQLite file of something else.
    """
    applied = _applied(db, path)
    if applied == len(MIGRATIONS):
        return
    db.execute("BEGIN IMMEDIATE")
    try:
        # Another process may have been first.
        for version, (name, statements) in enumerate(MIGRATIONS[_applied(db, path) :], start=_applied(db, path) + 1):
            _apply(db, version, name, statements, now)
    except BaseException:
        db.execute("ROLLBACK")
        raise
    db.execute("COMMIT")


def _applied(db: sqlite3.Connection, path: str) -> int:
    tables = {row[0] for row in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if not tables:
        return 0
    if "moorage_migrations" not in tables:
        raise PreflightError(
            f"{path} is an SQLite file of another program",
            code="store_foreign",
            hint="name another file with --db",
        )
    applied = int(db.execute("SELECT coalesce(max(version), 0) FROM moorage_migrations").fetchone()[0])
    if applied > len(MIGRATIONS):
        raise PreflightError(
            f"{path} was written by a newer Moorage (schema {applied}; this one knows {len(MIGRATIONS)})",
            code="store_newer",
            hint="run the newer version, or name another file with --db",
        )
    return applied


def _apply(db: sqlite3.Connection, version: int, name: str, statements: str, now: float) -> None:
    if version == 1:
        db.execute("CREATE TABLE moorage_migrations (version INTEGER PRIMARY KEY, name TEXT, applied_at REAL)")
    for statement in statements.split(";"):
        if statement.strip():
            db.execute(statement)
    db.execute("INSERT INTO moorage_migrations VALUES (?, ?, ?)", (version, name, now))
