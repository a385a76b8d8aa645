"""What importing the client costs, and what it leaves alone."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

HEAVY = ("torch", "tokenizers", "pyarrow", "openai", "transformers", "numpy", "httptools", "jinja2", "uvloop")

PROGRAM = """
import json, sys, time
began = time.process_time()
import moorage.client
took_s = time.process_time() - began
{more}
print(json.dumps([took_s, sorted(sys.modules)]))
"""


def _loaded(more: str = "") -> tuple[float, set[str]]:
    said = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(more=more)], capture_output=True, text=True, check=True, timeout=120
    )
    took_s, modules = json.loads(said.stdout)
    return took_s, {name.partition(".")[0] for name in modules} | set(modules)


def test_the_package_costs_nothing() -> None:
    took_s, modules = min((_loaded() for _ in range(3)), key=lambda one: one[0])
    assert took_s < 0.06
    assert not modules & {*HEAVY, "httpx", "msgspec", "pydantic"}


def test_the_gateways_client_needs_only_http() -> None:
    _, modules = _loaded("moorage.client.GatewayClient('http://127.0.0.1:1', environ={}).close()")
    assert not modules & {*HEAVY, "pydantic"}
    assert not [name for name in modules if name.startswith(("moorage.gateway", "moorage.engines", "moorage.pool"))]


def test_a_manager_of_a_gateway_needs_no_engines() -> None:
    _, modules = _loaded("moorage.client.ServerManager([], proxy_url='http://127.0.0.1:1', environ={})")
    assert not modules & set(HEAVY)
    assert not [name for name in modules if name.startswith(("moorage.gateway", "moorage.engines", "moorage.pool"))]


def test_a_manager_never_imports_torch() -> None:
    config = "[moorage.client.APIServerConfig(base_url='http://h/v1', server_type='vllm')]"
    _, modules = _loaded(f"moorage.client.ServerManager({config}, environ={{}})")
    assert not modules & {"torch", "transformers", "pyarrow", "openai"}


def test_names() -> None:
    import moorage.client as client

    assert all(getattr(client, name) for name in client.__all__)
    assert set(dir(client)) >= set(client.__all__)
    with pytest.raises(AttributeError):
        client.nonsense  # noqa: B018
