"""The gateway as a Python object: trajectories, the pool, rewards, control."""
