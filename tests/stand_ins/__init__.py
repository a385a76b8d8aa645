"""Stand-ins for what cannot be had in a test, or must misbehave on command."""
