"""What a tunnel is told: which port of this machine leads where. Pure."""

from __future__ import annotations

from collections import namedtuple


class TunnelSpec(namedtuple("TunnelSpec", "job_id local_port route")):
    """One tunnel: `job_id: str`, `local_port: int`, and `route: dict[str, Any]`, which is one of

    - `{"kind": "ssh", "remote": RemoteTarget.as_dict(), "address": "127.0.0.1", "port": 8081}`
    - `{"kind": "ssh", "remote": …, "address_file": "/abs/path"}`: a JSON file on the login host, `{"node", "port"}`,
      which is read again and again, since what it names may move
    - `{"kind": "kubernetes", "context": …, "namespace": …, "selector": "label=value", "port": 8080}`
    """

    __slots__ = ()
