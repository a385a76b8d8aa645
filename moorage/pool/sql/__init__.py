"""What decides, written once for every database: operations over a small connection."""
