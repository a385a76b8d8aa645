"""The launch plane: registry, ports, readiness, routing, platforms, and the use cases over them.

Platforms do what a platform can (submit, status, logs, stop, find); recording, waiting, undoing and choosing ports is
done once, in the use cases. Only the use cases write the registry.
"""
