"""What sbatch refuses, and what a cluster lacks, as our errors."""

from __future__ import annotations

import re

import pytest

from moorage.errors import MoorageError, PlatformUnreachable, PreflightError, TryAgainError, UsageError
from moorage.launch.platforms.slurm.checks import partition_check
from moorage.launch.platforms.slurm.faults import is_uncertain, submit_fault


@pytest.mark.parametrize(
    ("words", "kind", "code"),
    [
        ("sbatch: error: invalid partition specified: nope", UsageError, "bad_partition"),
        (
            "sbatch: error: Batch job submission failed: Invalid account or account/partition combination specified",
            UsageError,
            "bad_account",
        ),
        ("sbatch: error: Batch job submission failed: Invalid qos specification", UsageError, "bad_qos"),
        (
            "sbatch: error: Invalid generic resource (gres) specification",
            UsageError,
            "bad_gpus_type",
        ),
        (
            "sbatch: error: Batch job submission failed: Requested node configuration is not available",
            TryAgainError,
            "no_capacity",
        ),
        (
            "sbatch: error: Batch job submission failed: Requested partition configuration not available now",
            TryAgainError,
            "no_capacity",
        ),
        (
            "sbatch: error: Batch job submission failed: Requested time limit is invalid (missing or exceeds limit)",
            UsageError,
            "bad_time",
        ),
        (
            "sbatch: error: AssocMaxSubmitJobLimit\nsbatch: error: Batch job submission failed: "
            "Job violates accounting/QOS policy (job submit limit, user's size and/or time limits)",
            PreflightError,
            "slurm_policy",
        ),
        (
            "sbatch: error: Batch job submission failed: User's group not permitted to use this partition",
            PreflightError,
            "slurm_policy",
        ),
        (
            "sbatch: error: Batch job submission failed: Unable to contact slurm controller (connect failure)",
            PlatformUnreachable,
            "platform_unreachable",
        ),
        (
            "sbatch: error: Batch job submission failed: Socket timed out on send/recv operation",
            PlatformUnreachable,
            "platform_unreachable",
        ),
        ("sh: 1: sbatch: command not found", PreflightError, "slurm_missing"),
        ("sbatch: error: something new", MoorageError, "submit_failed"),
        ("", MoorageError, "submit_failed"),
    ],
)
def test_refusals_keep_slurm_s_own_words(words: str, kind: type[MoorageError], code: str) -> None:
    fault = submit_fault(1, words)
    assert isinstance(fault, kind)
    assert fault.code == code
    assert fault.hint
    last = re.sub(r"^sbatch: error: ", "", words.splitlines()[-1]) if words else ""
    assert last in fault.message


def test_only_what_the_controller_did_not_answer_is_in_doubt() -> None:
    assert is_uncertain(1, "sbatch: error: Batch job submission failed: Socket timed out on send/recv operation")
    assert is_uncertain(255, "")
    assert not is_uncertain(1, "sbatch: error: invalid partition specified: nope")


def test_the_partition_is_checked() -> None:
    lines = ["main*|up|infinite|2|gpu:h200:2", "short|up|10:00|2|(null)", "old|down|1:00|1|(null)", "noise"]
    assert partition_check(lines, None).ok
    assert "gpu:h200:2" in partition_check(lines, "main").message
    assert partition_check(lines, "short,main").ok
    for wanted in ("nope", "old"):
        check = partition_check(lines, wanted)
        assert (check.ok, "main, old, short" in check.hint) == (False, True)
    assert not partition_check(["short|up|10:00|2|(null)"], None).ok
    assert not partition_check([], None).ok
