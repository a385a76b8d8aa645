"""Ports of this machine that lead to a service elsewhere, each held by a process of its own."""
