"""Reward functions behind one signature, found by entry points, each run in processes of its own."""
