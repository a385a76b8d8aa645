"""What trainers read: projections of the calls of a session, computed anew each time.

Law, for every leaf: the deltas and completions of its chain joined are the node's tokens, and those are the last
step's `prompt_ids + response_ids`.
"""
