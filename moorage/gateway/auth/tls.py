"""TLS by certificate files: checked before they are used, and read again on demand while connections go on."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import ssl
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from moorage.errors import PreflightError
from moorage.gateway.auth.certificate_dates import validity_of

if TYPE_CHECKING:
    from moorage.gateway.log import Log
    from moorage.gateway.settings import Settings

__all__ = ["Tls", "on_hangup", "tls_of"]

SOON_S = 14 * 86400.0
"""A certificate that runs out sooner is warned of."""


class Tls:
    """What connections are encrypted with. `context` stays the same object; what it presents changes with `reload`."""

    def __init__(self, certificate: Path, key: Path, *, clock: Callable[[], float], log: Log) -> None:
        """Raises PreflightError: `tls_unreadable`, `tls_mismatch`, `tls_expired`. `clock`: Unix seconds."""
        self._certificate = certificate
        self._key = key
        self._clock = clock
        self._log = log
        self.context = self._current = self._load()
        self.context.sni_callback = self._present

    def reload(self) -> None:
        """Read the files again, for connections from now on. Files that are wrong change nothing and are logged."""
        try:
            self._current = self._load()
        except PreflightError as fault:
            self._log.fault(fault, kept="the certificate of before")
            return
        self._log.info("tls_reloaded", certificate=str(self._certificate))

    def _present(self, connection: ssl.SSLObject, name: str | None, context: ssl.SSLContext) -> None:
        """Called in each handshake, with a name or without: the whole context is exchanged, so no half of a pair is."""
        del name, context
        connection.context = self._current

    def _load(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.options |= ssl.OP_NO_RENEGOTIATION
        context.set_alpn_protocols(["http/1.1"])
        text = _read(self._certificate, "--tls-cert")
        _read(self._key, "--tls-key")
        try:
            context.load_cert_chain(self._certificate, self._key, password=_refuse_passphrase)
        except ssl.SSLError as fault:
            raise self._unusable(fault) from None
        except OSError as fault:
            raise _unreadable(self._key, "--tls-key", fault.strerror or "it cannot be read") from None
        self._check_dates(text)
        self._warn_of_readers()
        return context

    def _unusable(self, fault: ssl.SSLError) -> PreflightError:
        if fault.reason in ("KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH"):
            return PreflightError(
                f"--tls-key {self._key} is not the key of --tls-cert {self._certificate}",
                code="tls_mismatch",
                hint="the first certificate in the file is the gateway's own, those that issued it follow",
            )
        which = f"--tls-cert {self._certificate} or --tls-key {self._key}"
        return PreflightError(
            f"{which} is no PEM that can be used: {fault.reason or fault}",
            code="tls_unreadable",
            hint="a certificate, and a private key without a passphrase",
        )

    def _check_dates(self, text: str) -> None:
        try:
            begin, end = text.index("-----BEGIN CERTIFICATE-----"), text.index("-----END CERTIFICATE-----")
            first = text[begin:end] + "-----END CERTIFICATE-----"
            since, until = validity_of(ssl.PEM_cert_to_DER_cert(first))
        except ValueError as fault:
            raise _unreadable(self._certificate, "--tls-cert", f"its dates: {fault}") from None
        now = self._clock()
        if until <= now:
            raise PreflightError(
                f"--tls-cert {self._certificate} has expired", code="tls_expired", hint="have it renewed"
            )
        if since > now:
            self._log.warning("tls_not_yet_good", certificate=str(self._certificate), in_s=int(since - now))
        if until - now < SOON_S:
            self._log.warning("tls_expires_soon", certificate=str(self._certificate), in_s=int(until - now))

    def _warn_of_readers(self) -> None:
        with contextlib.suppress(OSError):
            mode = stat.S_IMODE(self._key.stat().st_mode)
            if mode & 0o007:
                said = f"every user of this machine may use --tls-key {self._key}: chmod 600"
                self._log.warning("tls_key_open", message=said, mode=f"{mode:o}")


def tls_of(settings: Settings, log: Log) -> Tls | None:
    """What `--tls-cert` and `--tls-key` ask for; None: plain HTTP. Raises PreflightError."""
    if settings.tls_cert is None or settings.tls_key is None:
        return None
    return Tls(settings.tls_cert, settings.tls_key, clock=time.time, log=log)


@contextlib.contextmanager
def on_hangup(tls: Tls | None) -> Iterator[None]:
    """Within it, SIGHUP has the files read again. Without TLS it is as it was."""
    if tls is None:
        yield
        return
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGHUP, tls.reload)
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGHUP)


def _read(path: Path, flag: str) -> str:
    try:
        return path.read_text("latin-1")
    except OSError as fault:
        raise _unreadable(path, flag, fault.strerror or "it cannot be read") from None


def _unreadable(path: Path, flag: str, why: str) -> PreflightError:
    return PreflightError(f"{flag} {path}: {why}", code="tls_unreadable")


def _refuse_passphrase() -> str:
    """Asked for the passphrase of an encrypted key: OpenSSL would ask the terminal."""
    return ""
