"""How a database comes to the newest schema: one file for each step, run when a store is opened."""
