"""One machine's control plane by one command: the API, the gateway, what they need, and a model that answers."""
