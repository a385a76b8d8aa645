"""Declared models as services of the launch plane, one service a replica, on any of its platforms."""
