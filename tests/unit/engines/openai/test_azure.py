"""Where hosted APIs have their routes, and how they want their keys."""

from __future__ import annotations

import pytest

from moorage.engines.fleet.endpoint import Endpoint
from moorage.engines.fleet.state import EndpointState
from moorage.engines.wire.origin import Origin

CHAT = "/v1/chat/completions"


def state(url: str, **fields: str) -> EndpointState:
    endpoint = Endpoint(
        origin=Origin.parse(f"https://{url}"), base_url=url, server_type="openai", api_key="K", **fields
    )  # type: ignore[arg-type]
    return EndpointState(endpoint, {})


@pytest.mark.parametrize(
    ("url", "fields", "target"),
    [
        ("api.openai.com/v1", {}, CHAT),
        ("openrouter.ai/api/v1", {}, CHAT),
        ("name.openai.azure.com/openai/v1", {}, CHAT),
        ("name.openai.azure.com/openai/v1", {"api_version": "preview"}, f"{CHAT}?api-version=preview"),
        ("name.openai.azure.com/openai/deployments/d", {}, "/chat/completions?api-version=2024-10-21"),
        ("name.openai.azure.com/openai/deployments/d/", {"api_version": "v9"}, "/chat/completions?api-version=v9"),
        (
            "name.openai.azure.com",
            {"model_name": "my gpt"},
            "/openai/deployments/my%20gpt/chat/completions?api-version=2024-10-21",
        ),
        # Whoever only has it in the path is not Azure.
        ("proxy.example/name.openai.azure.com/v1", {}, CHAT),
    ],
)
def test_targets(url: str, fields: dict[str, str], target: str) -> None:
    one = state(url, **fields)
    assert (CHAT if one.targets is None else one.targets(CHAT)) == target


@pytest.mark.parametrize(
    ("url", "header"),
    [
        ("api.openai.com/v1", (b"authorization", b"Bearer K")),
        ("name.openai.azure.com/openai/v1", (b"api-key", b"K")),
        ("r.cognitiveservices.azure.com/openai/v1", (b"api-key", b"K")),
        ("azure.com.example/v1", (b"authorization", b"Bearer K")),
    ],
)
def test_keys(url: str, header: tuple[bytes, bytes]) -> None:
    endpoint = Endpoint(origin=Origin.parse(f"https://{url}"), base_url=url, server_type="openai", api_key="K")
    assert endpoint.key_headers({}) == [header]
