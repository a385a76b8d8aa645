"""The options of each platform by name, for those who write them down somewhere else than on a command line."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

__all__ = ["OPTIONS"]

OPTIONS: Mapping[str, Mapping[str, type]] = MappingProxyType(
    {
        "local-process": {},
        "local-docker": {},
        "slurm": {
            **dict.fromkeys(("ssh_client", "partition", "account", "time", "gpus_type", "qos", "mem"), str),
            **{"cpus": int, "container": str, "workdir": str},
        },
        "kubernetes": {
            **dict.fromkeys(("context", "namespace", "access", "image_pull_secret", "image_pull_key_env", "pvc"), str),
            "as_job": bool,
        },
        "brev": dict.fromkeys(
            ("ssh_client", "instance_id", "instance_type", "cloud_cred_id", "workspace_group_id"), str
        ),
        "lepton": {
            **{"resource_shape": str, "node_group": str, "replicas": int, "token_env": str},
            "scale_to_zero": float,  # seconds
        },
    }
)
"""Platform → option, as the flag of `moor start` is called with underscores → what its value is."""
