"""The endpoints behind a gateway: which one is asked, how many at once, and what a fault does to it."""
