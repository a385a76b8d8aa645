"""LoRA adapters of a running vLLM service, by its own routes: which are loaded, load one, unload one.

The service must have been started with `--enable-lora` and `VLLM_ALLOW_RUNTIME_LORA_UPDATING`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from moorage.errors import FailedError, TryAgainError
from moorage.launch.entry import Entry
from moorage.launch.probe import MAX_BODY_BYTES, access_headers, base_url

__all__ = ["load_adapter", "loaded_adapters", "unload_adapter"]

READ_TIMEOUT_S = 10.0
LOAD_TIMEOUT_S = 120.0
"""A load reads the adapter's file, from a network's disk perhaps."""


def loaded_adapters(entry: Entry, environ: Mapping[str, str]) -> dict[str, str]:
    """Name → where it was loaded from. Raises TryAgainError when the service does not answer."""
    body = _ask(entry, environ, "GET", "/v1/models", None, READ_TIMEOUT_S)
    cards = body.get("data") if isinstance(body, dict) else None
    if not isinstance(cards, list):
        raise TryAgainError(f"the service {entry['job_id']} answers with no list of models")
    return {str(card["id"]): str(card.get("root")) for card in cards if isinstance(card, dict) and card.get("parent")}


def load_adapter(entry: Entry, environ: Mapping[str, str], name: str, source: str) -> None:
    """Load it, also over one of the same name. Raises FailedError `adapter_refused` with the engine's own words."""
    asked = {"lora_name": name, "lora_path": source, "load_inplace": True}
    _ask(entry, environ, "POST", "/v1/load_lora_adapter", asked, LOAD_TIMEOUT_S)


def unload_adapter(entry: Entry, environ: Mapping[str, str], name: str) -> None:
    """Unload it; one that is not there is no fault. Requests that it answers go on."""
    try:
        _ask(entry, environ, "POST", "/v1/unload_lora_adapter", {"lora_name": name}, READ_TIMEOUT_S)
    except FailedError as fault:
        if (fault.data or {}).get("status") != 404:
            raise


def _ask(
    entry: Entry, environ: Mapping[str, str], method: str, path: str, body: dict[str, Any] | None, timeout_s: float
) -> Any:
    """The answer's JSON, else its text. Raises FailedError for a refusal, TryAgainError when nothing answers."""
    import requests

    job_id = entry["job_id"]
    url, headers = base_url(entry) + path, access_headers(entry, environ)
    with requests.Session() as session:
        session.trust_env = False
        try:
            reply = session.request(
                method, url, json=body, headers=headers, timeout=timeout_s, allow_redirects=False, stream=True
            )
            content = reply.raw.read(MAX_BODY_BYTES, decode_content=True)
        except (requests.RequestException, OSError, ValueError) as fault:
            raise TryAgainError(f"the service {job_id} did not answer {method} {path}: {fault}") from fault
    text = content.decode("utf-8", "replace")
    if reply.status_code != 200:
        raise _refusal(job_id, path, reply.status_code, text, body)
    try:
        return json.loads(text)
    except ValueError:
        return text


def _refusal(job_id: str, path: str, status: int, text: str, body: dict[str, Any] | None) -> FailedError:
    if status == 404 and body is not None and "lora_path" in body and "cannot be found" not in text:
        why = "it has no such route: it was not started with adapters"
    else:
        why = _words(text) or f"HTTP {status}"
    what = f"the adapter {body['lora_name']!r}" if body else path
    return FailedError(
        f"the engine of {job_id} refused {what}: {why}",
        code="adapter_refused",
        hint="an adapter is a folder with adapter_config.json for this very model; "
        "one of a higher rank needs max_lora_rank in engine_kwargs",
        data={"status": status},
    )


def _words(text: str) -> str:
    try:
        body = json.loads(text)
    except ValueError:
        return text[:300]
    error = body.get("error") if isinstance(body, dict) else None
    return str(error.get("message") if isinstance(error, dict) else body)[:300]
