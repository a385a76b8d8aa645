"""How `models/nano` is made: data, tokenizer, model, training, evaluation, export. `python -m models.train` runs it."""
