"""A container registry with one image: real enough for a Docker engine to pull from, on loopback, without TLS."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import tarfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

JSON = "application/json"
MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
CONFIG = "application/vnd.docker.container.image.v1+json"
LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}

Answers = dict[str, tuple[str, bytes]]
"""Last part of the path → content type and body."""


class RegistryServer(ThreadingHTTPServer):
    """Answers GET and HEAD by the last part of the path alone."""

    daemon_threads = True

    def __init__(self, answers: Answers, *, locked: bool) -> None:
        super().__init__(("127.0.0.1", 0), RegistryHandler)
        self.answers = answers
        self.locked = locked


class RegistryHandler(BaseHTTPRequestHandler):
    """One request."""

    server: RegistryServer
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.wfile.write(self._head())

    def do_HEAD(self) -> None:
        self._head()

    def log_message(self, format: str, *args: object) -> None:
        return

    def _head(self) -> bytes:
        """Send status and headers; the body that belongs to them."""
        unknown = (JSON, b'{"errors": [{"code": "MANIFEST_UNKNOWN", "message": "manifest unknown"}]}')
        name = self.path.rstrip("/").rpartition("/")[2]
        kind, body = self.server.answers.get(name, unknown)
        self.send_response(401 if self.server.locked else 200 if name in self.server.answers else 404)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Docker-Distribution-Api-Version", "registry/2.0")
        if self.server.locked:
            self.send_header("WWW-Authenticate", 'Basic realm="registry"')
        if kind == MANIFEST:
            self.send_header("Docker-Content-Digest", digest_of(body))
        self.end_headers()
        return body


@contextmanager
def small_registry(*, layer_bytes: list[int], locked: bool = False) -> Iterator[str]:
    """Serve one image under every name with the tag `1`, with a layer of random content for each size; `host:port`.

    `locked`: every request is answered 401, as a registry does to those who have not logged in.
    """
    server = RegistryServer(_image(layer_bytes), locked=locked)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def digest_of(data: bytes) -> str:
    """A blob's name."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def _image(layer_bytes: list[int]) -> Answers:
    tars = [_layer(size) for size in layer_bytes]
    layers = [gzip.compress(tar, compresslevel=1) for tar in tars]
    config = _json(
        {
            "architecture": ARCHITECTURES.get(os.uname().machine, os.uname().machine),
            "os": "linux",
            "config": {"Cmd": ["/bin/sh"]},
            "rootfs": {"type": "layers", "diff_ids": [digest_of(tar) for tar in tars]},
        }
    )
    manifest = _json(
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": _reference(CONFIG, config),
            "layers": [_reference(LAYER, layer) for layer in layers],
        }
    )
    blobs = {digest_of(blob): ("application/octet-stream", blob) for blob in (config, *layers)}
    return {"v2": (JSON, b"{}"), "1": (MANIFEST, manifest), digest_of(manifest): (MANIFEST, manifest), **blobs}


def _reference(kind: str, blob: bytes) -> dict[str, object]:
    return {"mediaType": kind, "size": len(blob), "digest": digest_of(blob)}


def _json(value: object) -> bytes:
    return json.dumps(value).encode()


def _layer(size: int) -> bytes:
    """A tar with one file of that many random bytes."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        member = tarfile.TarInfo(f"random-{os.urandom(4).hex()}")
        member.size = size
        archive.addfile(member, io.BytesIO(os.urandom(size)))
    return buffer.getvalue()
