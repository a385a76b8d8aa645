"""What was sampled, and how calls hang together: pure values and decisions, without any input or output.

A session (a trajectory) is a tree of calls. Each call stores only what its prompt adds to its parent's tokens, so a
long session costs as much as its tokens, not their square.
"""
