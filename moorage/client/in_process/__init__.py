"""Sessions without a gateway: engines asked from the caller's own event loop, every token kept in memory."""
