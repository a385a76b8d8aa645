"""Recorded replies for the requests that they were given to, without an engine."""
