"""What should run, and what is to be noted down: pure decisions of the reconciler."""
