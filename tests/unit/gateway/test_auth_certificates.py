"""When a certificate is good, as OpenSSL wrote it."""

from __future__ import annotations

import ssl
import subprocess
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moorage.gateway.auth.certificate_dates import validity_of


def certificate(folder: Path, *flags: str) -> bytes:
    """DER of one that OpenSSL signs itself."""
    path = folder / "made.pem"
    words = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", folder / "made.key", "-out", path]
    subprocess.run([*words, "-subj", "/CN=gate.example", *flags], check=True, capture_output=True)
    return ssl.PEM_cert_to_DER_cert(path.read_text())


@pytest.mark.parametrize("days", [1, 3650, 12000])
def test_dates_are_read(tmp_path: Path, days: int) -> None:
    """12000 days go beyond 2050, from when on the year has four digits."""
    since, until = validity_of(certificate(tmp_path, "-days", str(days)))
    assert abs(since - time.time()) < 600
    assert abs(until - since - days * 86400) < 2


def test_a_longer_issuer_and_more_names_do_not_matter(tmp_path: Path) -> None:
    names = ",".join(f"DNS:host{number}.example" for number in range(400))
    since, until = validity_of(certificate(tmp_path, "-days", "2", "-addext", f"subjectAltName={names}"))
    assert until - since == 2 * 86400


@given(st.binary(max_size=300))
def test_what_is_no_certificate_is_told(data: bytes) -> None:
    with pytest.raises(ValueError):
        validity_of(data)


def test_a_certificate_that_was_cut_off_is_told(tmp_path: Path) -> None:
    whole = certificate(tmp_path, "-days", "2")
    for size in range(0, len(whole), 7):
        with pytest.raises(ValueError):
            validity_of(whole[:size])
