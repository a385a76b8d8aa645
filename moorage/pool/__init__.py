"""The durable store of sessions and calls, and the groups that trainers lease from it."""
