"""What `moor pool` does: looks at a pool, follows it, writes it to a file, marks steps, lets old trajectories go."""
