"""Models on a real Ray cluster, changed and broken at random."""
