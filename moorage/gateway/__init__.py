"""The HTTP surface: model routes, sessions, trajectories, the pool and operations."""
