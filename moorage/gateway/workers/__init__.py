"""Several gateway processes over one store: a parent that keeps them alive, and how they ask each other."""
