"""Ways to a Docker engine that are not its own socket: one that fails once, and one through TLS."""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

PIECE = 1 << 16

Handle = Callable[[socket.socket, socket.socket], None]
"""Talks between one asker and the engine until either ends."""


@contextmanager
def faulty_proxy(engine_socket: Path, folder: Path, *, at: bytes, answer: bytes | None = None) -> Iterator[str]:
    """Pass everything on, but fail at the first request that holds `at`; gives the URL.

    With `answer`, the engine never hears of that request and the asker gets the answer. Without, the engine does what
    it was asked, and the connection is cut when it answers.
    """
    first = threading.Lock()  # taken once, never given back

    def handle(asker: socket.socket, engine: socket.socket) -> None:
        losing = threading.Event()
        threading.Thread(target=_pass, args=[engine, asker, losing], daemon=True).start()
        while piece := asker.recv(PIECE):
            if at in piece and first.acquire(blocking=False):
                if answer is not None:
                    asker.sendall(answer)
                    break
                losing.set()
            engine.sendall(piece)
        asker.shutdown(socket.SHUT_RDWR)

    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(folder / "proxy.sock"))
    listener.listen()
    with _serving(listener, engine_socket, handle):
        yield f"unix://{folder}/proxy.sock"


@contextmanager
def tls_proxy(engine_socket: Path, folder: Path) -> Iterator[str]:
    """TLS on loopback that wants a client certificate; `folder` gets ca.pem, cert.pem and key.pem. Gives the URL."""
    _make_certificates(folder)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    context.load_verify_locations(folder / "ca.pem")
    context.verify_mode = ssl.CERT_REQUIRED

    def handle(asker: socket.socket, engine: socket.socket) -> None:
        asker.settimeout(30)
        secured = context.wrap_socket(asker, server_side=True)
        while _pass_what_came(secured, engine):
            pass

    listener = socket.create_server(("127.0.0.1", 0))
    with _serving(listener, engine_socket, handle):
        yield f"tcp://127.0.0.1:{listener.getsockname()[1]}"


@contextmanager
def _serving(listener: socket.socket, engine_socket: Path, handle: Handle) -> Iterator[None]:
    def serve(asker: socket.socket) -> None:
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as engine:
            engine.connect(str(engine_socket))
            handle(asker, engine)

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=serve, args=[listener.accept()[0]], daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield
    finally:
        listener.close()


def _pass(engine: socket.socket, asker: socket.socket, losing: threading.Event) -> None:
    with contextlib.suppress(OSError):
        while (piece := engine.recv(PIECE)) and not losing.is_set():
            asker.sendall(piece)
        asker.shutdown(socket.SHUT_RDWR)


def _pass_what_came(secured: ssl.SSLSocket, engine: socket.socket) -> bool:
    """Wait for either side and pass a piece on; False when one has ended. Two threads cannot share a TLS connection."""
    ready = [secured] if secured.pending() else select.select([secured, engine], [], [])[0]
    if engine in ready:
        piece = engine.recv(PIECE)
        secured.settimeout(30)
        secured.sendall(piece)
        return bool(piece)
    secured.settimeout(0)
    try:
        piece = secured.recv(PIECE)
    except ssl.SSLWantReadError:  # a part of a record, or one of TLS's own
        return True
    engine.sendall(piece)
    return bool(piece)


def _make_certificates(folder: Path) -> None:
    """One authority, and one certificate for both sides."""

    def openssl(*words: str) -> None:
        subprocess.run(["openssl", *words], cwd=folder, check=True, capture_output=True)

    new_key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    openssl(
        "req", "-x509", *new_key, "-keyout", "ca-key.pem", "-out", "ca.pem", "-days", "2", "-subj", "/CN=moorage-ca"
    )
    openssl("req", *new_key, "-keyout", "key.pem", "-out", "request.pem", "-subj", "/CN=moorage")
    (folder / "names").write_text("subjectAltName=IP:127.0.0.1\n")
    signed = ("-CA", "ca.pem", "-CAkey", "ca-key.pem", "-CAcreateserial", "-extfile", "names", "-days", "2")
    openssl("x509", "-req", "-in", "request.pem", "-out", "cert.pem", *signed)
