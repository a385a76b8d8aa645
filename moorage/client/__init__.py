"""What training code and agents import: rollouts that are recorded token by token, and a trainer's side of the pool;
and for platform teams, the serving API.

    from moorage.client import APIServerConfig, GatewayClient, ServerManager

Names are loaded when they are used, so importing the package costs next to nothing.
"""

from __future__ import annotations

from importlib import import_module

TYPE_CHECKING = False
if TYPE_CHECKING:
    from moorage.client.gateway.async_client import AsyncGatewayClient as AsyncGatewayClient
    from moorage.client.gateway.sync_client import GatewayClient as GatewayClient
    from moorage.client.gateway.values import Event as Event
    from moorage.client.gateway.values import Lease as Lease
    from moorage.client.gateway.values import Step as Step
    from moorage.client.gateway.values import Trajectory as Trajectory
    from moorage.client.serving.client import ServingClient as ServingClient
    from moorage.client.sessions.config import APIServerConfig as APIServerConfig
    from moorage.client.sessions.config import ServerBaseline as ServerBaseline
    from moorage.client.sessions.config import ServerManagerConfig as ServerManagerConfig
    from moorage.client.sessions.managed_server import ManagedServer as ManagedServer
    from moorage.client.sessions.managed_server import ManagedServerAdapter as ManagedServerAdapter
    from moorage.client.sessions.node import SequenceNode as SequenceNode
    from moorage.client.sessions.server_manager import ServerManager as ServerManager
    from moorage.engines.reasoning.config import ReasoningConfig as ReasoningConfig

__all__ = [
    "APIServerConfig",
    "AsyncGatewayClient",
    "Event",
    "GatewayClient",
    "Lease",
    "ManagedServer",
    "ManagedServerAdapter",
    "ReasoningConfig",
    "SequenceNode",
    "ServerBaseline",
    "ServerManager",
    "ServerManagerConfig",
    "ServingClient",
    "Step",
    "Trajectory",
]

_HOMES = (
    ("moorage.client.gateway.async_client", ("AsyncGatewayClient",)),
    ("moorage.client.gateway.sync_client", ("GatewayClient",)),
    ("moorage.client.gateway.values", ("Event", "Lease", "Step", "Trajectory")),
    ("moorage.client.serving.client", ("ServingClient",)),
    ("moorage.client.sessions.config", ("APIServerConfig", "ServerBaseline", "ServerManagerConfig")),
    ("moorage.client.sessions.managed_server", ("ManagedServer", "ManagedServerAdapter")),
    ("moorage.client.sessions.node", ("SequenceNode",)),
    ("moorage.engines.reasoning.config", ("ReasoningConfig",)),
    ("moorage.client.sessions.server_manager", ("ServerManager",)),
)


def __getattr__(name: str) -> object:
    for home, names in _HOMES:
        if name in names:
            return getattr(import_module(home), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
