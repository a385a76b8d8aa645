"""A Ray cluster of this machine's own: started by Ray's own Python, kept on record, ended by identity."""
