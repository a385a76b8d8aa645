"""What `moor models` does: its actions, the documents that it sends, and what people are shown."""
