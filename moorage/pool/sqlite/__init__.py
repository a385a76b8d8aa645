"""The store in one SQLite file: sessions, calls, groups and their events."""
