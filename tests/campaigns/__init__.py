"""Long trials of the gateway and of served models, run on demand; the test run has a short form of each.

    python -m tests.campaigns conversations [--number 200] [--seed N]   against a real vLLM, with models/nano
    python -m tests.campaigns kills [--number 20] [--seed N]            kill -9 under load, against a stub engine
    python -m tests.campaigns soak [--minutes 60] [--workers N]         half of the load it can take: leaks and losses
    python -m tests.campaigns ray [--number 12] [--seed N]              models on a real Ray, changed and broken

How far it is goes to stderr. The seed is said first and with what was found, and the same seed says the same things
again; what a model samples, and when the processes of a busy machine run, it does not fix.
"""
