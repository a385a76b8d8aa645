"""Other machines over SSH: commands, files and streams, by the user's own configuration."""
