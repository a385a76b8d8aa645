"""Ready, healthy, which servers, metrics, documentation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from moorage.engines.fleet.servers_file import endpoints_of
from moorage.errors import PreflightError
from moorage.gateway import documentation
from moorage.gateway.http.faults import Fault
from moorage.gateway.http.reply import Reply, json_reply
from moorage.gateway.http.request import Request
from moorage.gateway.metrics.exposition import CONTENT_TYPE
from moorage.gateway.metrics.workers import metrics_text

if TYPE_CHECKING:
    from moorage.engines.fleet.state import EndpointState
    from moorage.gateway.gateway import Gateway

__all__ = ["docs", "docs_file", "health", "metrics", "openapi", "ready", "servers", "setup"]


async def ready(gateway: Gateway, request: Request) -> Reply:
    """`GET /ready`: 503 with the reason while the tokenizer loads, and when the gateway stops."""
    del request
    if gateway.stopping.is_set():
        raise Fault(503, "Gateway not ready (draining)", code="draining", retry_after_s=1)
    gateway.refuse_unready()
    if gateway.serving is not None:
        gateway.serving.refuse_unheard()
    return json_reply({"status": "ready"})


async def health(gateway: Gateway, request: Request) -> Reply:
    """`GET /health`: what the upstreams are, as last seen; 503 when none of them is healthy.

    Where keys are asked for, who shows none is told the status alone.
    """
    states = gateway.fleet.states()
    healthy = sum(1 for state in states if state.healthy)
    status = "ok" if healthy == len(states) and healthy else "degraded" if healthy else "unavailable"
    if gateway.serving is not None:
        status = gateway.serving.status(status if states else "ok")
    code = 503 if status == "unavailable" else 200
    if not gateway.door.trusts(request):
        return json_reply({"status": status}, code)
    body: dict[str, Any] = {
        "status": status,
        "model": next((state.model_name for state in states if state.model_name), None),
        "sessions": gateway.sessions.open,
        "servers": len(states),
        "healthy_servers": healthy,
    }
    if gateway.serving is not None:
        body["serving"] = gateway.serving.told()
    return json_reply(body, code)


async def servers(gateway: Gateway, request: Request) -> Reply:
    """`GET /servers`."""
    del request
    elsewhere = {} if gateway.company is None else await gateway.company.busy()
    rows = [
        {
            "index": index,
            "base_url": state.endpoint.base_url,
            "healthy": state.healthy,
            "model_name": state.model_name,
            "server_type": state.endpoint.server_type,
            "in_flight": state.in_flight + elsewhere.get(state.url, 0),
            **_truth(state),
        }
        for index, state in enumerate(gateway.fleet.states())
    ]
    return json_reply({"servers": rows})


def _truth(state: EndpointState) -> dict[str, Any]:
    """What this worker knows of an endpoint: how it stands, what it may take, how it did lately."""
    return {
        "url": state.url,
        "models": list(state.served),
        "reason": state.health.reason,
        "draining": state.draining,
        "circuit": "open" if state.tripped else "closed",
        "gives_token_ids": state.records,
        "sessions": state.sessions,
        "weight": state.endpoint.weight,
        "slots": {
            "train": {"limit": state.train.limit, "taken": state.train.taken, "busy": state.train.busy},
            "eval": {"limit": state.evaluation.limit, "taken": state.evaluation.taken, "busy": state.evaluation.busy},
        },
        "statistics": {lane: state.statistics.of_lane(lane) for lane in ("train", "eval")},
        "retries": state.counts.retries,
    }


async def setup(gateway: Gateway, request: Request) -> Reply:
    """`POST /setup`: other servers; checked first, and the old ones stay when something is wrong."""
    if gateway.serving is not None:
        message = "the endpoints are those of the declared models (--serving): declare them there"
        raise Fault(409, message, code="endpoints_followed")
    fields = request.decode(dict[str, Any])
    endpoints = endpoints_of(fields)
    shared = endpoints if gateway.company is None else gateway.company.share(endpoints)
    try:
        await gateway.fleet.replace(shared)
    except PreflightError as fault:  # a key's variable is not set: the old servers stay
        raise Fault(401, f"{fault.message}; {fault.hint}", code=fault.code, param="servers") from None
    if gateway.company is not None:
        gateway.company.set_up(request.body)
    gateway.log.info("set_up", servers=[endpoint.base_url for endpoint in endpoints], request_id=request.id)
    return json_reply({"status": "ok", "servers": len(endpoints), "model_name": fields.get("model_name")})


async def metrics(gateway: Gateway, request: Request) -> Reply:
    """`GET /metrics`, in Prometheus's text format."""
    del request
    return Reply(200, await metrics_text(gateway), CONTENT_TYPE)


async def docs(gateway: Gateway, request: Request) -> Reply:
    """`GET /docs`: the API's pages; every file of them comes from here."""
    del gateway, request
    return Reply(200, documentation.page(), b"text/html; charset=utf-8")


async def docs_file(gateway: Gateway, request: Request) -> Reply:
    """`GET /docs/{file}`: a script, style or image of the pages."""
    del gateway
    found = documentation.file(request.params["file"])
    if found is None:
        raise Fault(404, f"no file {request.path}", code="route_unknown")
    content, content_type = found
    return Reply(200, content, content_type, ((b"cache-control", b"max-age=86400"),))


async def openapi(gateway: Gateway, request: Request) -> Reply:
    """`GET /openapi.json`."""
    del gateway, request
    return json_reply(documentation.document())
