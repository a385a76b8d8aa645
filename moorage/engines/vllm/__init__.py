"""Stock vLLM's dialect as bytes and values: what to ask for so that ids come back, and how to read them. No I/O."""
