"""kubernetes: services as Deployments or Jobs; `platform` is the contract, the other files its parts."""

from moorage.launch.platforms.kubernetes.platform import Kubernetes

__all__ = ["Kubernetes"]
