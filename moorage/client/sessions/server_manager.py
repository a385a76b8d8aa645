"""Atropos's manager of servers: calls spread over engines, and recorded rollouts on them or behind a gateway."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from moorage.client.gateway.asks import sessions
from moorage.client.http.place import KEY_ENV
from moorage.client.http.terms import terms_of
from moorage.client.sessions.behind_gateway import GatewayServer
from moorage.client.sessions.config import APIServerConfig, ServerBaseline
from moorage.client.sessions.managed_server import ManagedServer
from moorage.client.sessions.recorded import RecordedSession, Sending
from moorage.client.sessions.replies import chat_completion, completion
from moorage.client.sessions.request import Request, chat_request, completion_request, logprobs_request
from moorage.client.sessions.sampling import sampled
from moorage.client.sessions.session import SessionOptions
from moorage.client.sessions.stated import configs_of
from moorage.errors import PreflightError, UsageError
from moorage.extras import install_command

if TYPE_CHECKING:
    from openai.types import Completion
    from openai.types.chat import ChatCompletion

    from moorage.client.in_process.api_server import APIServer
    from moorage.engines.reasoning.config import ReasoningConfig

__all__ = ["ServerManager"]

T = TypeVar("T")


class ServerManager:
    """Made outside an event loop or within; used in any number of them, one after the other.

    Without `proxy_url` (or ATROPOS_PROXY_URL) engines are asked from this process, and nothing is written to disk;
    with it everything goes through that gateway. Results are the same.
    """

    def __init__(
        self,
        configs: ServerBaseline | Sequence[APIServerConfig] | APIServerConfig = (),
        server_class: Any = None,
        slurm: bool = False,
        testing: bool = False,
        max_n_completions: int = 8,
        reasoning_config: ReasoningConfig | None = None,
        proxy_url: str | None = None,
        use_proxy: bool = False,
        tool_parser: str | None = None,
        *,
        key_env: str | None = KEY_ENV,
        patience_s: float = 30.0,
        environ: Mapping[str, str] = os.environ,
    ) -> None:
        """`server_class` is not looked at: each server's `server_type` says what it is.

        `key_env`: the variable with the gateway's key; `patience_s`: how long what may pass is waited for. Raises
        UsageError for servers or an address that cannot be, PreflightError for a key that is not there.
        """
        del server_class
        if testing:
            raise UsageError("testing=True is not offered", code="bad_value", hint="give the servers that are meant")
        if max_n_completions < 1:
            raise UsageError(f"max_n_completions is {max_n_completions}: at least 1", code="bad_value")
        self.max_n_completions = max_n_completions
        self.reasoning_config = reasoning_config
        self.proxy_url = proxy_url or environ.get("ATROPOS_PROXY_URL") or None
        self.use_proxy = use_proxy or self.proxy_url is not None
        self.tool_parser = tool_parser
        self._gateway: GatewayServer | None = None
        self.servers: list[APIServer] = []
        if self.proxy_url is not None:
            timeout_s = float(max((one.timeout for one in _listed(configs)), default=1200))
            terms = terms_of(
                self.proxy_url, key_env=key_env, environ=environ, timeout_s=timeout_s, patience_s=patience_s
            )
            self._gateway = GatewayServer(terms)
        elif not self.use_proxy:
            self._engines, self.servers = _in_process(
                configs_of(configs, environ, slurm=slurm), reasoning_config, patience_s, environ
            )

    @asynccontextmanager
    async def managed_server(
        self,
        tokenizer: Any = None,
        base_url: str | None = None,
        preserve_think_blocks: bool = True,
        *,
        track_tree: bool = False,
        tool_parser: str | None = None,
        reasoning_parser: str | None = None,
        mode: Literal["exact", "passthrough"] | None = None,
    ) -> AsyncIterator[ManagedServer]:
        """A recorded rollout, ended when the block is left: read its state within.

        `tokenizer`: of transformers, a folder or a name; None: the model's. A gateway uses its own. `base_url`: the
        server it stays on. `preserve_think_blocks`: False leaves past reasoning to the chat template. Raises
        UsageError, among them `engine_gives_no_token_ids`.
        """
        options = SessionOptions(
            tokenizer=tokenizer,
            tool_parser=tool_parser or self.tool_parser or "hermes",
            reasoning_parser=reasoning_parser,
            track_tree=track_tree,
            preserve_think_blocks=preserve_think_blocks,
            mode=mode,
            base_url=base_url,
        )
        managed = ManagedServer(self, options=options)
        try:
            await managed.open()
            yield managed
        finally:
            await managed.cleanup()

    def session(self, options: SessionOptions) -> RecordedSession:
        """A session on any server."""
        return RecordedSession(lambda: self._to(options.tokenizer), options)

    async def chat_completion(self, **kwargs: Any) -> ChatCompletion:
        """A chat that nothing records; `n` beyond `max_n_completions` is asked for in several requests."""
        asked = chat_request(kwargs, keep_model=True)
        return chat_completion(await self._open("chat/completions", asked, kwargs, chat_request))

    async def completion(self, **kwargs: Any) -> Completion:
        """A text completion that nothing records."""
        asked = completion_request(kwargs, keep_model=True)
        return completion(await self._open("completions", asked, kwargs, completion_request))

    async def tokens_and_logprobs_completion(
        self, **kwargs: Any
    ) -> tuple[list[int], list[list[int]], list[list[float]], list[str]]:
        """(prompt's tokens [P], samples' tokens [n][C], their log probabilities [n][C], finish reasons [n])."""
        return await sampled(self.session(SessionOptions()), completion_request(kwargs))

    async def get_logprobs(self, **kwargs: Any) -> dict[str, Any]:
        """How likely `input_ids`, `prompt` or `messages` are: `prompt_tokens`, `prompt_topk_token_ids`,
        `prompt_topk_logprobs`, `prompt_logprobs`."""
        asked = logprobs_request(kwargs)
        to = await self._to(None)
        return await to.send(sessions.open_logprobs(asked.content, lane=asked.lane))

    async def update_weight(self, weight: float) -> None:
        """The share of every server's slots that is used."""
        for server in self.servers:
            await server.update_weight(weight)

    async def wait_for_sem(self, is_training: bool) -> None:
        """Return when some server has a free slot."""
        while self.servers and all(
            (server.sem if is_training else server.eval_sem).locked() for server in self.servers
        ):
            await asyncio.sleep(0.05)

    @asynccontextmanager
    async def dedicated_server(self) -> AsyncIterator[APIServer]:
        """The healthy server with the most free slots, one of them held meanwhile."""
        healthy = [server for server in self.servers if server.server_healthy] or self.servers
        if not healthy:
            raise UsageError("behind a gateway there are no servers to hold", code="no_servers")
        server = max(healthy, key=lambda one: one.sem._value)
        async with server.sem:
            yield server

    async def close(self) -> None:
        """Close what this event loop has opened. The end of the loop does it too."""
        if self._gateway is not None:
            await self._gateway.close()
        elif self.servers:
            await self._engines.close()

    async def __aenter__(self) -> ServerManager:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()

    async def _to(self, tokenizer: Any) -> Sending:
        if self._gateway is not None:
            return self._gateway
        if not self.servers:
            raise UsageError(
                "use_proxy=True needs proxy_url or ATROPOS_PROXY_URL",
                code="bad_value",
                hint="give the gateway's address",
            )
        to: Sending = await self._engines.sessions(tokenizer)
        return to

    async def _open(
        self,
        route: str,
        asked: Request,
        kwargs: Mapping[str, Any],
        read: Callable[..., Request],
    ) -> dict[str, Any]:
        to = await self._to(None)

        async def one(request: Request) -> dict[str, Any]:
            ask = sessions.open_call(route, request.content, lane=request.lane, timeout_s=request.timeout_s)
            return await to.send(ask)

        if asked.n <= self.max_n_completions:
            return await one(asked)
        sizes = [min(self.max_n_completions, asked.n - at) for at in range(0, asked.n, self.max_n_completions)]
        parts = await _all([one(read({**kwargs, "n": size}, keep_model=True)) for size in sizes])
        return _joined(parts)


def _in_process(
    configs: Sequence[APIServerConfig], reasoning: ReasoningConfig | None, patience_s: float, environ: Mapping[str, str]
) -> tuple[Any, list[APIServer]]:
    try:
        from moorage.client.in_process.api_server import APIServer
        from moorage.client.in_process.engines import Engines
    except ModuleNotFoundError as fault:
        raise PreflightError(
            f"without a gateway sessions need {fault.name}, which is not installed",
            code="package_missing",
            hint="or go through a gateway: proxy_url, ATROPOS_PROXY_URL",
            next=[install_command("client", "gateway")],
        ) from None
    engines = Engines(configs, reasoning=reasoning, patience_s=patience_s, environ=environ)
    return engines, [APIServer(engines, index, config) for index, config in enumerate(configs)]


async def _all(work: Sequence[Awaitable[T]]) -> list[T]:
    """The results in order; one that fails ends the others, and its error is raised."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(_await(one)) for one in work]
    except BaseExceptionGroup as several:
        raise several.exceptions[0] from None
    return [task.result() for task in tasks]


async def _await(one: Awaitable[T]) -> T:
    return await one


def _joined(parts: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """One reply with all choices, numbered through, and the sum of what was used."""
    choices = [choice for part in parts for choice in part["choices"]]
    whole = {**parts[0], "choices": [{**choice, "index": index} for index, choice in enumerate(choices)]}
    used = [part["usage"] for part in parts if isinstance(part.get("usage"), dict)]
    if used:
        names = ("prompt_tokens", "completion_tokens", "total_tokens")
        whole["usage"] = {**used[0], **{name: sum(one.get(name) or 0 for one in used) for name in names}}
    return whole


def _listed(configs: Any) -> Sequence[ServerBaseline]:
    return [configs] if isinstance(configs, ServerBaseline) else list(configs)
