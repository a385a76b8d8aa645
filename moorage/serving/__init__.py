"""The serving control plane: models that users declare, and what keeps them served as declared."""
