"""Who may do what: keys, roles, sessions' capabilities, browsers that were led astray, certificates."""
