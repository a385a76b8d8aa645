"""A recorded conversation with the methods that Atropos's environments call."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from moorage.client.sessions.node import state_of
from moorage.client.sessions.replies import chat_completion, completion
from moorage.client.sessions.request import chat_request, completion_request, logprobs_request
from moorage.client.sessions.session import Server, SessionOptions
from moorage.errors import UsageError

if TYPE_CHECKING:
    from openai.types import Completion
    from openai.types.chat import ChatCompletion

__all__ = ["ManagedServer", "ManagedServerAdapter"]


class ManagedServer:
    """Calls of one rollout, each token that was sampled kept with its log probability.

    Made by `ServerManager.managed_server()`, or on one of `ServerManager.servers`. Raises errors of `moorage.errors`;
    a call that failed leaves what was recorded as it was. For one event loop.
    """

    def __init__(
        self,
        server: Server,
        tokenizer: Any = None,
        track_tree: bool = False,
        tool_parser: str | None = None,
        preserve_think_blocks: bool = True,
        *,
        options: SessionOptions | None = None,
    ) -> None:
        """`options`: in place of the others."""
        self._options = options or SessionOptions(
            tokenizer=tokenizer,
            track_tree=track_tree,
            tool_parser=tool_parser or "hermes",
            preserve_think_blocks=preserve_think_blocks,
        )
        self.track_tree = self._options.track_tree
        self._session = server.session(self._options)

    async def chat_completion(self, **kwargs: Any) -> ChatCompletion:
        """A turn; fields as OpenAI's API has them, and `split` (`train` or `eval`), `timeout`."""
        asked = chat_request(kwargs)
        return chat_completion(await self._session.chat(asked.content, lane=asked.lane, timeout_s=asked.timeout_s))

    async def completion(self, **kwargs: Any) -> Completion:
        """A text completion of `prompt`, text or ids."""
        asked = completion_request(kwargs)
        return completion(await self._session.completion(asked.content, lane=asked.lane, timeout_s=asked.timeout_s))

    async def get_logprobs(self, **kwargs: Any) -> dict[str, Any]:
        """How likely `input_ids`, `prompt` or `messages` are: `prompt_tokens` [P], `prompt_topk_token_ids` and
        `prompt_topk_logprobs` [P][top_k], `prompt_logprobs` [P]. Nothing is recorded."""
        asked = logprobs_request(kwargs)
        return await self._session.logprobs(asked.content, lane=asked.lane)

    def get_state(self) -> dict[str, Any]:
        """`{"nodes": [SequenceNode]}`; with `track_tree` also `sequences` and `tree`.

        Behind a gateway this asks it and blocks meanwhile; `await fetch_state()` does not.
        """
        return state_of(self._session.nodes_now(), track_tree=self.track_tree)

    async def fetch_state(self) -> dict[str, Any]:
        """The same, awaited."""
        return state_of(await self._session.nodes(), track_tree=self.track_tree)

    def reset(self) -> None:
        """Begin anew: what was recorded is not continued. Behind a gateway the URL is another one then."""
        self._session.reset()

    def get_url(self) -> str:
        """The session's URL for any OpenAI client. Raises UsageError `no_url` in process, where there is none."""
        url = self._session.url
        if url is None:
            hint = "with proxy_url (ATROPOS_PROXY_URL) sessions are behind a gateway and have one"
            raise UsageError("a session in this process has no URL", code="no_url", hint=hint)
        return url

    @property
    def api_key(self) -> str | None:
        """The session's own key, for who is given its URL; None: none is needed."""
        return self._session.api_key

    async def open(self) -> None:
        """Make the session now; else the first call does."""
        await self._session.open()

    async def cleanup(self) -> None:
        """End the session."""
        await self._session.close()

    async def __aenter__(self) -> ManagedServer:
        await self.open()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.cleanup()


class ManagedServerAdapter:
    """A managed server where code expects an OpenAI client: `chat.completions.create`, `completions.create`."""

    def __init__(self, managed_server: ManagedServer, base_url: str = "") -> None:
        self.base_url = base_url
        self.chat = _Chat(managed_server)
        self.completions = _Completions(managed_server)


class _ChatCompletions:
    def __init__(self, managed: ManagedServer) -> None:
        self._managed = managed

    async def create(self, **kwargs: Any) -> ChatCompletion:
        return await self._managed.chat_completion(**kwargs)


class _Chat:
    def __init__(self, managed: ManagedServer) -> None:
        self.completions = _ChatCompletions(managed)


class _Completions:
    def __init__(self, managed: ManagedServer) -> None:
        self._managed = managed

    async def create(self, **kwargs: Any) -> Completion:
        return await self._managed.completion(**kwargs)
