"""Other protocols than chat completions: a request becomes a chat, its reply is told in the protocol's own words."""
