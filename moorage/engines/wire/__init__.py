"""The wire to an engine: an HTTP/1.1 client for few origins and many requests."""
