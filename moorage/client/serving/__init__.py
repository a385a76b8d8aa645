"""The serving API as a Python object: models that are declared, and the users who declare them."""
