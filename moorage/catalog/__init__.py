"""What can be launched and asked: the reference files as typed values, and what is computed from them.

Reads `references/` and `versions.yaml`; knows no platform, no registry and no network.
"""
