"""Half of the load that a gateway can take, for an hour: what grows, what leaks, what is lost."""
