"""The reward functions that come with the package, one a file."""
