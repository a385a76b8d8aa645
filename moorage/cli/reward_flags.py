"""The flags of `moor gateway` that say which reward functions it offers."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from moorage.rewards.configured import Configured

__all__ = ["add_reward_arguments", "rewards_of"]


def add_reward_arguments(parser: argparse.ArgumentParser) -> None:
    """`--reward` and `--reward-config`."""
    judges = parser.add_argument_group("reward functions")
    judges.add_argument("--reward", metavar="NAME[,NAME]", help="of /compute_reward; see moor rewards list")
    judges.add_argument("--reward-config", metavar="FILE", type=Path, help="their options, YAML or JSON")


def rewards_of(args: argparse.Namespace) -> tuple[Configured, ...]:
    """What they ask for; the default first. Raises UsageError."""
    if args.reward is None and args.reward_config is None:
        return ()
    from moorage.rewards.configured import configure, read_config
    from moorage.rewards.installed import installed

    config = None if args.reward_config is None else read_config(args.reward_config)
    return tuple(configure(args.reward, config, installed()))
