"""docs/security.md against the code: routes, roles, codes and numbers."""

from __future__ import annotations

import inspect
import re

from moorage.gateway.auth import key_ring, refusals, tls
from moorage.gateway.auth.failures import BURST, PER_S
from moorage.gateway.auth.key_text import SECRET_BYTES
from moorage.gateway.auth.rules import RULES
from tests.bundle.checkout import ROOT, codes, section, table_rows

PAGE = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
PROSE = " ".join(PAGE.split())


def test_what_only_admins_may_is_named() -> None:
    [line] = re.findall(r"Only admins: (.*?)\. Prometheus", PROSE)
    named = {(method or "POST", path) for method, path in re.findall(r"`(?:(GET|POST) )?(/[a-z/]+)`", line)}
    assert named == {route for route, rule in RULES.items() if rule == "admin"}


def test_what_is_open_is_named() -> None:
    [line] = re.findall(r"Open to everybody: (.*?) Load balancers", PROSE)
    named = set(re.findall(r"`GET (/[a-z.]+)`", line))
    assert named == {name for (_, name), rule in RULES.items() if rule == "open"} - {"/docs/{file}"}


def test_every_code_of_a_refusal_is_in_the_table() -> None:
    source = inspect.getsource(refusals)
    written = set(re.findall(r'code="([a-z_]+)"', source)) | set(re.findall(r', "(key_[a-z]+)"', source))
    named = {code for row in table_rows(section(PAGE, "What a refused request is told")) for code in codes(row[1])}
    assert named == written - {"keys_required"}


def test_numbers_are_those_of_the_code() -> None:
    assert (
        f"may fail {BURST:.0f} times at once and then once in {('zero', 'one', 'two')[int(1 / PER_S)]} seconds" in PROSE
    )
    assert f"cannot be asked for {key_ring.STALE_S:.0f} s" in PROSE
    assert key_ring.LOOK_EVERY_S == 1 / 4
    assert "four times a second" in PROSE
    assert f"within {tls.SOON_S / 86400:.0f} days" in PROSE
    assert f"{SECRET_BYTES * 2} random hexadecimal digits" in PROSE
    assert f"{SECRET_BYTES * 8} random bits" in PROSE
