"""Conversations with a real vLLM, and whether what is stored is what the engine itself reported."""
