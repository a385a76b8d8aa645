"""Seeing to it that what is declared is what runs: passes over the plan, made by one reconciler at a time."""
