"""Handlers, a file a subject: `async def handler(gateway, request) -> Reply | Stream`."""
