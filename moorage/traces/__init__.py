"""What was recorded, for people and programs to look at: listed, shown, verified, replayed, exported.

A store is opened for reading only (`moorage.pool.opening`); a gateway that writes to it meanwhile is not disturbed.
"""
