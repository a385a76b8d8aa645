"""Whether a store still holds what was committed to it, and whether what the records say of themselves is so."""
