"""A gateway in front of declared models: it follows what the serving API says of them, and who may use them."""
