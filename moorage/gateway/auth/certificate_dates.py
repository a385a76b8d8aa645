"""When a certificate is good, read from its bytes: the standard library tells that only of certificates of others.

Certificate ::= SEQUENCE { tbsCertificate SEQUENCE { [0] version?, serialNumber, signature, issuer,
                           validity SEQUENCE { notBefore, notAfter }, … }, … }         (RFC 5280, in DER)
"""

from __future__ import annotations

from datetime import UTC, datetime

__all__ = ["validity_of"]

SEQUENCE, VERSION, UTC_TIME, GENERALIZED_TIME = 0x30, 0xA0, 0x17, 0x18


def validity_of(der: bytes) -> tuple[float, float]:
    """(good from, good until), Unix seconds. Raises ValueError for what is no certificate."""
    try:
        _, certificate, _ = _read(der, SEQUENCE)
        _, rest, _ = _read(certificate, SEQUENCE)
        tag, _, after = _read(rest)
        rest = after if tag == VERSION else rest
        for _ in range(3):  # serial number, signature algorithm, issuer
            _, _, rest = _read(rest)
        _, validity, _ = _read(rest, SEQUENCE)
        first_tag, first, validity = _read(validity)
        last_tag, last, _ = _read(validity)
    except IndexError:
        raise ValueError("it ends too early") from None
    return _time(first_tag, first), _time(last_tag, last)


def _read(data: bytes, expected: int | None = None) -> tuple[int, bytes, bytes]:
    """(tag, content, what follows) of the first value."""
    tag, length, at = data[0], data[1], 2
    if length & 0x80:
        at = 2 + (length & 0x7F)
        if at > 6:
            raise ValueError("a length of more than four bytes")
        length = int.from_bytes(data[2:at], "big")
    if expected is not None and tag != expected:
        raise ValueError(f"tag {tag:#x} where {expected:#x} belongs")
    if at + length > len(data):
        raise ValueError("it ends too early")
    return tag, data[at : at + length], data[at + length :]


def _time(tag: int, text: bytes) -> float:
    if tag == UTC_TIME:  # two digits of the year: 1950 to 2049
        text = (b"19" if text[:2] >= b"50" else b"20") + text
    elif tag != GENERALIZED_TIME:
        raise ValueError(f"tag {tag:#x} where a time belongs")
    return datetime.strptime(text.decode("ascii"), "%Y%m%d%H%M%SZ").replace(tzinfo=UTC).timestamp()
