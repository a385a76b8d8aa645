"""Through the cluster's own door to a port of the newest pod: the API server carries the bytes."""

from __future__ import annotations

import socket
import threading
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from moorage.errors import TryAgainError, UsageError
from moorage.launch.platforms.kubernetes.client import Cluster, open_cluster
from moorage.launch.platforms.kubernetes.pods import container_of, newest_pod
from moorage.launch.tunnel.route import Stream

ANSWER_S = 6.0
MOST_AT_ONCE = 230
"""Connections. Each needs four descriptors, and the package can wait for those below 1024 only: with more, some would
hang for ever."""


class KubernetesRoute:
    """See `tunnel.route.Route`. It holds while the cluster answers; each connection goes to the newest pod there is."""

    def __init__(self, route: Mapping[str, Any], environ: Mapping[str, str]) -> None:
        try:
            self._namespace, self._selector = str(route["namespace"]), str(route["selector"])
            self._port = int(route["port"])
        except (KeyError, TypeError, ValueError):
            raise UsageError(f"a tunnel into a cluster leads nowhere: {dict(route)!r}") from None
        self._context = route.get("context")
        self._environ = environ
        self._cluster: Cluster | None = None
        self._pod: str | None = None
        self._streams: set[PodStream] = set()
        self._opening = 0
        self._lock = threading.Lock()

    @property
    def target(self) -> str | None:
        return f"{self._pod}:{self._port}" if self._pod else None

    def connect(self) -> None:
        self.close()
        cluster = open_cluster(self._environ, self._context, timeout_s=ANSWER_S)
        self._choose(cluster)
        self._cluster = cluster

    def open(self) -> Stream:
        cluster, pod = self._connected(), self._pod
        if pod is not None:
            try:
                return self._forward(cluster, pod)
            except TryAgainError:
                pass  # it may have been replaced since
        chosen = self._choose(cluster)
        if chosen is None:
            raise TryAgainError(f"no pod of {self._selector} runs", code="port_closed")
        return self._forward(cluster, chosen)

    def check(self) -> None:
        self._choose(self._connected())

    def close(self) -> None:
        cluster, self._cluster, self._pod = self._cluster, None, None
        with self._lock:
            streams, self._streams = self._streams, set()
        for stream in streams:
            stream.close()
        if cluster is not None:
            cluster.close()

    def _connected(self) -> Cluster:
        cluster = self._cluster
        if cluster is None:
            raise TryAgainError("the cluster is not connected")
        return cluster

    def _choose(self, cluster: Cluster) -> str | None:
        self._pod = running_pod(cluster.items(self._namespace, "pods", labelSelector=self._selector))
        return self._pod

    def _forward(self, cluster: Cluster, pod: str) -> Stream:
        with self._lock:
            if len(self._streams) + self._opening >= MOST_AT_ONCE:
                raise TryAgainError(f"{MOST_AT_ONCE} connections go through this tunnel already", code="port_closed")
            self._opening += 1
        stream = None
        try:
            stream = PodStream(cluster.forward(self._namespace, pod, self._port), self._port, self._forget)
            return stream
        finally:
            with self._lock:
                self._opening -= 1
                if stream is not None:
                    self._streams.add(stream)

    def _forget(self, stream: PodStream) -> None:
        with self._lock:
            self._streams.discard(stream)


class PodStream:
    """One connection. The cluster's protocol cannot end one direction alone: `shutdown_write` only stops sending."""

    def __init__(self, forward: Any, port: int, forget: Any) -> None:
        self._forward = forward
        self._socket = forward.socket(port)
        self._socket.setblocking(True)
        self._forget = forget

    def recv(self, size: int, /) -> bytes:
        data: bytes = self._socket.recv(size)
        return data

    def sendall(self, data: bytes, /) -> None:
        self._socket.sendall(data)

    def shutdown_write(self) -> None:
        """The far end is not told: it would take that for the end of both directions, and its reply would be lost."""

    def close(self) -> None:
        self._forget(self)
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)  # wakes a thread that waits in recv
        with suppress(OSError):
            self._socket.close()


def running_pod(pods: list[dict[str, Any]]) -> str | None:
    """The name of the newest pod whose server runs; None when there is none."""
    running = [pod for pod in pods if "running" in ((container_of(pod) or {}).get("state") or {})]
    pod = newest_pod(running)
    return str(pod["metadata"]["name"]) if pod else None
