"""Pure: what should run, from what is declared and what is seen."""
