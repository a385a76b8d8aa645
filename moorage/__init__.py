"""Moorage: start inference services anywhere, know when they are ready, route requests to them, stop them."""

__version__ = "0.1.0"
