"""One module a verb; see `moorage.cli`."""
