"""A real Ray cluster that serves the tiny trained model, through the backend alone and through the control plane."""
