"""The gateway against nginx and against its peers, in one run.

    python -m bench gateway --short        what CI runs: less than 90 seconds, no peers but nginx
    python -m bench gateway                the whole table; peers install themselves in environments of their own

Every stack stands before the same stub upstream, which is faster than all of them. CPU is what the operating system
counted for the whole process tree. In each round all stacks are measured, forwards and backwards in turn; what counts
is the median of the rounds' ratios to nginx, so that a slow moment of the machine cancels out. The stack under test has
a core of its own where the machine has two.
"""
