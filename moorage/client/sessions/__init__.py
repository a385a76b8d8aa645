"""Recorded conversations with the names that Atropos has for them."""
