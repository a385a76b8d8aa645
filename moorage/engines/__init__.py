"""Talking to engines: one dialect a folder, the fleet that chooses among endpoints, chat rendering and parsing."""
