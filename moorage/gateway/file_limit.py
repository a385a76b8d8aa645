"""How many files this process may have open, and how many of them connections may take."""

from __future__ import annotations

import resource

__all__ = ["connections_within", "raise_file_limit"]

OTHERS = 128
"""Files of everything else: the store's, the tokenizer's, logs, the parser process."""
LEAST = 1024
"""What every system gives."""
MOST = 1 << 20


def raise_file_limit() -> int:
    """Raise the limit as far as this user may; what it is then."""
    try:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    except OSError:  # a sandbox may forbid even asking
        return LEAST
    wanted = MOST if hard == resource.RLIM_INFINITY else min(hard, MOST)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        except (ValueError, OSError):  # a container may forbid it
            return soft
        return wanted
    return MOST if soft == resource.RLIM_INFINITY else soft


def connections_within(files: int, wanted: int) -> int:
    """How many clients to take: a quarter of the files is for the way to engines, and for everything else."""
    return max(1, min(wanted, files - max(OTHERS, files // 4)))
