"""Where reward functions run: processes that may hang, die or lie without harm to anybody else."""
