"""The page on which people read and try an HTTP API, with nothing from another host."""
