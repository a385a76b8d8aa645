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

MANIFEST_TYPE = "application/vnd.docker.distribution.manifest.v2+json"


@contextmanager
def small_registry(*, repository: str, layer_bytes: list[int], locked: bool = False) -> Iterator[str]:
    """Serve `repository:1`, with one layer of random content for each size; gives `host:port/repository`.

    `locked`: every request is answered 401, as a registry does to those who have not logged in.
    """
    blobs, manifest = _image(layer_bytes)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._answer()

        def do_HEAD(self) -> None:
            self._answer()

        def _answer(self) -> None:
            if locked:
                self._send(401, b"{}", "application/json", {"WWW-Authenticate": 'Basic realm="registry"'})
            elif self.path.rstrip("/") == "/v2":
                self._send(200, b"{}", "application/json")
            elif self.path in (f"/v2/{repository}/manifests/1", f"/v2/{repository}/manifests/{_digest(manifest)}"):
                self._send(200, manifest, MANIFEST_TYPE, {"Docker-Content-Digest": _digest(manifest)})
            elif (blob := blobs.get(self.path.rpartition("/")[2])) is not None:
                self._send(200, blob, "application/octet-stream")
            else:
                fault = json.dumps({"errors": [{"code": "MANIFEST_UNKNOWN", "message": "manifest unknown"}]}).encode()
                self._send(404, fault, "application/json")

        def _send(self, status: int, body: bytes, kind: str, headers: dict[str, str] | None = None) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Docker-Distribution-Api-Version", "registry/2.0")
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_port}/{repository}"
    finally:
        server.shutdown()
        server.server_close()


def _image(layer_bytes: list[int]) -> tuple[dict[str, bytes], bytes]:
    """(blobs by digest, manifest)"""
    tars = [_layer(size) for size in layer_bytes]
    layers = [gzip.compress(tar, compresslevel=1) for tar in tars]
    config = json.dumps(
        {
            "architecture": {"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine, os.uname().machine),
            "os": "linux",
            "config": {"Cmd": ["/bin/sh"]},
            "rootfs": {"type": "layers", "diff_ids": [_digest(tar) for tar in tars]},
        }
    ).encode()
    manifest = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "config": {
                "mediaType": "application/vnd.docker.container.image.v1+json",
                "size": len(config),
                "digest": _digest(config),
            },
            "layers": [
                {
                    "mediaType": "application/vnd.docker.image.rootfs.diff.tar.gzip",
                    "size": len(layer),
                    "digest": _digest(layer),
                }
                for layer in layers
            ],
        }
    ).encode()
    return {_digest(blob): blob for blob in (config, *layers)}, manifest


def _layer(size: int) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        member = tarfile.TarInfo(f"random-{os.urandom(4).hex()}")
        member.size = size
        archive.addfile(member, io.BytesIO(os.urandom(size)))
    return buffer.getvalue()


def _digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"
