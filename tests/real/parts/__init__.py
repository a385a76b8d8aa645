"""The real parts that tests stand on: a Docker engine, a container image, an engine environment, a model.

Each file makes one part and ends it; tests/conftest.py hands them out as fixtures. A part that cannot be had on this
machine goes through `absence.require_real`, so that its absence is counted.
"""
