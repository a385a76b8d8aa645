"""The flags of `moor start` that belong to one platform, or to some."""

from __future__ import annotations

import argparse
from typing import Any, NamedTuple

from moorage.cli.parser import one_of, positive_duration_s
from moorage.errors import UsageError


class PlatformFlag(NamedTuple):
    """One flag. `kind`: what argparse makes of the word; bool for a switch."""

    flag: str
    platforms: tuple[str, ...]
    help: str
    metavar: str | None = None
    kind: Any = str
    choices: tuple[str, ...] = ()


SSH = ("slurm", "brev")
FLAGS = (
    PlatformFlag("--ssh-client", SSH, "log in with paramiko (default) or with the system's ssh", "paramiko|openssh",
                 choices=("paramiko", "openssh")),
    PlatformFlag("--partition", ("slurm",), "default SLURM_PARTITION", "P"),
    PlatformFlag("--account", ("slurm",), "default SLURM_ACCOUNT", "A"),
    PlatformFlag("--time", ("slurm",), "wall time, as sbatch takes it", "T"),
    PlatformFlag("--gpus-type", ("slurm",), "type of the GPUs in --gres, as h100", "TYPE"),
    PlatformFlag("--qos", ("slurm",), "quality of service", "Q"),
    PlatformFlag("--cpus", ("slurm",), "processor cores (default: the site's, often 1)", "N", kind=int),
    PlatformFlag("--mem", ("slurm",), "memory, as sbatch takes it (default: the site's)", "M"),
    PlatformFlag("--container", ("slurm",), "how the image is run (default pyxis)", "pyxis|oci|none",
                 choices=("pyxis", "oci", "none")),
    PlatformFlag("--workdir", ("slurm",), "folder on the cluster for scripts and logs", "DIR"),
    PlatformFlag("--context", ("kubernetes",), "of the kubeconfig (default: the current one)", "C"),
    PlatformFlag("--namespace", ("kubernetes",), "default TAO_K8S_NAMESPACE, else default", "N"),
    PlatformFlag("--access", ("kubernetes",), "how it is reached (default load-balancer)",
                 "load-balancer|node-port|port-forward|cluster-ip",
                 choices=("load-balancer", "node-port", "port-forward", "cluster-ip")),
    PlatformFlag("--image-pull-secret", ("kubernetes",), "a pull secret that the namespace has", "NAME"),
    PlatformFlag("--image-pull-key-env", ("kubernetes",), "make a pull secret of the key in this variable", "VAR"),
    PlatformFlag("--pvc", ("kubernetes",), "a volume claim for models and the hub's cache", "NAME"),
    PlatformFlag("--as-job", ("kubernetes",), "a Job instead of a Deployment", kind=bool),
    PlatformFlag("--instance-id", ("brev",), "the instance, by name or id", "I"),
    PlatformFlag("--instance-type", ("brev",), "create an instance of this type when none runs", "TYPE"),
    PlatformFlag("--cloud-cred-id", ("brev",), "for older brev programs, with --workspace-group-id", "ID"),
    PlatformFlag("--workspace-group-id", ("brev",), "for older brev programs, with --cloud-cred-id", "ID"),
    PlatformFlag("--resource-shape", ("lepton",), "the machine, as gpu.h100-sxm", "SHAPE"),
    PlatformFlag("--node-group", ("lepton",), "a dedicated node group", "G"),
    PlatformFlag("--replicas", ("lepton",), "how many (default 1)", "N", kind=int),
    PlatformFlag("--token-env", ("lepton",), "variable with the endpoint's key (default MOORAGE_LEPTON_TOKEN)", "VAR"),
    PlatformFlag("--scale-to-zero", ("lepton",), "no replica after this long without a request", "D",
                 kind=positive_duration_s),
)  # fmt: skip


def add_platform_flags(parser: argparse.ArgumentParser) -> None:
    """Add them all, told by platform."""
    for one in FLAGS:
        told = f"{', '.join(one.platforms)}: {one.help}"
        if one.kind is bool:
            parser.add_argument(one.flag, action="store_true", default=None, help=told)
        else:
            parser.add_argument(one.flag, type=one.kind, metavar=one.metavar, help=told)


def platform_options(args: argparse.Namespace) -> dict[str, Any]:
    """The flags that were given, by name. Raises UsageError for one of another platform, or with a wrong word."""
    options: dict[str, Any] = {}
    for one in FLAGS:
        name = one.flag.removeprefix("--").replace("-", "_")
        value = getattr(args, name)
        if value is None:
            continue
        if args.platform not in one.platforms:
            raise UsageError(
                f"{one.flag} has no meaning on {args.platform}",
                code="flag_of_another_platform",
                hint=f"it is a flag of {' and '.join(one.platforms)}",
            )
        if value == "":
            raise UsageError(f"{one.flag} is empty", hint="give a value, or leave it away")
        options[name] = one_of(one.flag, value, one.choices) if one.choices else value
    return options
