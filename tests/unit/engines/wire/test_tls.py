"""https upstreams: certificates are checked."""

from __future__ import annotations

import asyncio
import datetime
import ssl
from pathlib import Path

import pytest
import uvloop
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from moorage.engines.wire.faults import Unreachable
from moorage.engines.wire.origin import Origin
from moorage.engines.wire.upstream import Upstream
from tests.unit.engines.wire.scripted import OK, always, scripted


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for localhost and its key, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    file = tmp_path_factory.mktemp("tls") / "both.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    file.write_bytes(private + made.public_bytes(serialization.Encoding.PEM))
    return file


@pytest.mark.parametrize("factory", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_tls(certificate: Path, factory: object) -> None:
    async def main() -> None:
        server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        server.load_cert_chain(certificate)
        async with scripted(always(OK), ssl=server) as seen:
            trusting = Upstream(Origin.parse(seen.url), tls=ssl.create_default_context(cafile=str(certificate)))
            for _ in range(2):
                assert (await trusting.ask("POST", "/x", (), b"{}" * 9000, silence_s=30)).body == b"{}"
            assert seen.connections == 1
            await trusting.close()
            with pytest.raises(Unreachable, match="certificate"):
                await Upstream(Origin.parse(seen.url)).ask("GET", "/x", silence_s=30)
            other_name = Origin.parse(seen.url.replace("localhost", "127.0.0.1"))
            with pytest.raises(Unreachable, match="certificate"):
                context = ssl.create_default_context(cafile=str(certificate))
                await Upstream(other_name, tls=context).ask("GET", "/x", silence_s=30)

    with asyncio.Runner(loop_factory=factory) as loop:  # type: ignore[arg-type]
        loop.run(main())
