"""Models as applications of Ray Serve LLM, declared through Ray's REST; Ray itself is never imported."""
