"""How much a model should think before it answers, said as each provider wants to hear it. Pure."""
