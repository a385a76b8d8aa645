"""Measurements, as ratios taken side by side in one run.

    python -m bench list        cold start of `moor list --json` with 100 entries
    python -m bench race        64 processes that each start a service against one state file
    python -m bench overhead    what `moor start` adds to an engine's own start
    python -m bench many        a thousand streams, ten thousand live sessions
    python -m bench serving-hop the gateway in front of a declared model beside the model itself
    python -m bench gateway     the gateway beside nginx and its peers; see bench/gateway/__init__.py

Each prints a table; `--svg FILE` draws it. Ratios and counts are gated in CI (tests/real/test_bench.py); absolute
figures are reported and never gated, since machines differ.
"""
