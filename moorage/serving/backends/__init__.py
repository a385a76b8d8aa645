"""What serves the models: one backend a file or folder, behind one contract."""
