"""The requests, by part of the gateway: pure functions, the same for both clients."""
