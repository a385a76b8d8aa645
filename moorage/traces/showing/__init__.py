"""The tokens of a trajectory for a person's eyes, and the same as data."""
