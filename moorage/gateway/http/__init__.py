"""HTTP itself: connections, requests, replies, which handler a path has, how faults are told."""
