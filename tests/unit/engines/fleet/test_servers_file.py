"""Atropos's servers file, `--upstream`, and the registry, as endpoints."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from moorage.engines.fleet.endpoint import Endpoint
from moorage.engines.fleet.servers_file import endpoints_of, read_servers
from moorage.engines.fleet.upstreams import from_entries, from_urls
from moorage.engines.wire.origin import Origin
from moorage.errors import PreflightError, UsageError

CANARY = "canary-key-0123"


def test_defaults_are_atroposs() -> None:
    (endpoint,) = endpoints_of({"model_name": "m", "servers": [{"base_url": "http://h:1/v1"}]})
    assert (endpoint.server_type, endpoint.model_name, endpoint.api_key) == ("vllm", "m", None)
    assert (endpoint.num_max_requests_at_once, endpoint.num_requests_for_eval) == (512, 64)
    assert (endpoint.timeout_s, endpoint.health_check, endpoint.tokenizer_name) == (None, True, None)


def test_every_field(tmp_path: Path) -> None:
    server = {
        "base_url": "http://h:1/v1",
        "server_type": "sglang",
        "api_key": CANARY,
        "model_name": "own",
        "tokenizer_name": "t",
        "num_max_requests_at_once": 3,
        "num_requests_for_eval": 2,
        "timeout": 60,
        "health_check": False,
        "rolling_buffer_length": 1000,
        "n_kwarg_is_ignored": False,
    }
    other = {"base_url": "http://h:2/v1", "server_type": "openai", "api_key": "", "tokenizer_name": "none"}
    file = tmp_path / "servers.json"
    file.write_text(json.dumps({"model_name": "m", "tokenizer_name": "common", "servers": [server, other]}))
    first, second = read_servers(file)
    assert first == Endpoint(
        origin=Origin("http", "h", 1, ""),
        base_url="http://h:1/v1",
        server_type="sglang",
        model_name="own",
        tokenizer_name="t",
        api_key=CANARY,
        num_max_requests_at_once=3,
        num_requests_for_eval=2,
        timeout_s=60,
        health_check=False,
    )
    assert (second.model_name, second.tokenizer_name, second.api_key) == ("m", "common", None)
    assert (first.server_type, second.server_type) == ("sglang", "openai")
    assert CANARY not in repr(first)


@pytest.mark.parametrize(
    ("fields", "where"),
    [
        ({}, "servers"),
        ({"servers": {}}, "servers"),
        ({"servers": [{}]}, "base_url"),
        ({"servers": [{"base_url": 1}]}, "base_url"),
        ({"servers": [{"base_url": "h:1"}]}, r"servers\[0\].base_url"),
        ({"servers": [{"base_url": "http://h"}, {"base_url": "http://i", "server_type": "tgi"}]}, r"servers\[1\]"),
        ({"servers": [{"base_url": "http://h", "num_max_requests_at_once": 0}]}, "num_max_requests_at_once"),
        ({"servers": [{"base_url": "http://h", "timeout": -1}]}, "timeout"),
        ({"servers": [{"base_url": "http://h/v1"}, {"base_url": "http://h/"}]}, "same"),
    ],
)
def test_faults_name_the_place(fields: dict[str, Any], where: str) -> None:
    with pytest.raises(UsageError, match=where) as caught:
        endpoints_of(fields)
    assert caught.value.code == "bad_servers"


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"servers": []}', b"\xff"])
def test_faults_name_the_file(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "servers.json"
    file.write_bytes(content)
    with pytest.raises(UsageError, match=r"servers\.json") as caught:
        read_servers(file)
    assert caught.value.code == "servers_file"
    with pytest.raises(UsageError, match="No such file"):
        read_servers(tmp_path / "none.json")


def test_upstreams() -> None:
    endpoints = from_urls("http://a:1/v1, http://b:2,http://a:1/")
    assert [endpoint.url for endpoint in endpoints] == ["http://a:1", "http://b:2"]
    for wrong in ("", " , ", "a:1"):
        with pytest.raises(UsageError):
            from_urls(wrong)


def test_entries_of_the_registry() -> None:
    entries: list[dict[str, Any]] = [
        {"network_arch": "vllm", "host_url": "http://localhost:8080", "served_model_name": "m", "state": "ready"},
        {"network_arch": "sglang", "host_url": "https://x.example", "token_env": "X_KEY"},
        {"network_arch": "cosmos-rl", "host_url": "http://localhost:8081"},
        {"network_arch": "vllm", "host_url": "http://localhost:8082", "state": "exited"},
        {"network_arch": "vllm", "host_url": None},
        {"network_arch": "vllm", "host_url": "nonsense"},
        {},
    ]
    first, second = from_entries(entries)
    assert (first.url, first.model_name, first.key({})) == ("http://localhost:8080", "m", None)
    assert (second.server_type, second.key({"X_KEY": CANARY})) == ("sglang", CANARY)
    with pytest.raises(PreflightError, match="X_KEY"):
        second.key({})
    assert from_entries(entries, key_of=lambda entry: CANARY)[1].key({}) == CANARY


@pytest.mark.parametrize("key", ["a b", "a\r\nx: y", "ä"])
def test_a_key_that_would_break_the_header_is_refused_and_not_shown(key: str) -> None:
    (endpoint,) = endpoints_of({"servers": [{"base_url": "http://h", "api_key": key}]})
    with pytest.raises(PreflightError) as caught:
        endpoint.key({})
    assert key not in caught.value.message
