"""A store's steps, nodes or calls in one file."""
