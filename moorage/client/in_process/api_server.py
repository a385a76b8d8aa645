"""One server of a manager, with the attributes that Atropos's environments look at."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from moorage.client.gateway.asks import sessions
from moorage.client.sessions.config import APIServerConfig
from moorage.client.sessions.recorded import RecordedSession, Sending
from moorage.client.sessions.replies import chat_completion, completion
from moorage.client.sessions.request import chat_request, completion_request, logprobs_request
from moorage.client.sessions.sampling import sampled
from moorage.client.sessions.session import SessionOptions
from moorage.engines.fleet.slots import Slots

if TYPE_CHECKING:
    from openai.types import Completion
    from openai.types.chat import ChatCompletion

    from moorage.client.in_process.engines import Engines
    from moorage.engines.fleet.state import EndpointState

__all__ = ["APIServer", "Semaphore"]


class Semaphore:
    """The slots of one server for training, or for evaluation."""

    def __init__(self, slots: Callable[[], Slots], max_val: int) -> None:
        self._slots = slots
        self.max_val = max_val
        self.weight = 1.0

    @property
    def _value(self) -> int:
        """Those that are free, as asyncio's semaphore calls them."""
        slots = self._slots()
        return max(0, slots.limit - slots.taken)

    def min_val(self) -> float:
        """Slots that are left unused."""
        return self.max_val * (1.0 - self.weight)

    def update_weight(self, weight: float) -> None:
        """Use this share of the slots."""
        self.weight = weight
        self._slots().limit = max(1, round(self.max_val * weight))

    def locked(self) -> bool:
        return self._value <= 0

    async def acquire(self) -> bool:
        await self._slots().take()
        return True

    def release(self) -> None:
        self._slots().give()

    async def __aenter__(self) -> None:
        await self.acquire()

    async def __aexit__(self, *exc: object) -> None:
        self.release()


class APIServer:
    """Sessions and calls that stay on this server."""

    def __init__(self, engines: Engines, index: int, config: APIServerConfig) -> None:
        self._engines, self._index = engines, index
        self.config = config
        self.sem = Semaphore(lambda: self._state().train, config.num_max_requests_at_once)
        self.eval_sem = Semaphore(lambda: self._state().evaluation, config.num_requests_for_eval)

    @property
    def server_healthy(self) -> bool:
        return self._state().healthy

    async def update_weight(self, weight: float) -> None:
        """Of both kinds of slots."""
        self.sem.update_weight(weight)
        self.eval_sem.update_weight(weight)

    def session(self, options: SessionOptions) -> RecordedSession:
        """A session that stays here."""
        pinned = replace(options, base_url=self.config.base_url)

        async def connect() -> Sending:
            return await self._engines.sessions(pinned.tokenizer)

        return RecordedSession(connect, pinned)

    async def chat_completion(self, **kwargs: Any) -> ChatCompletion:
        """A chat that nothing records, by any server that serves this one's model."""
        asked = chat_request(kwargs, keep_model=True)
        embedded = await self._engines.sessions()
        ask = sessions.open_call("chat/completions", asked.content, lane=asked.lane, timeout_s=asked.timeout_s)
        return chat_completion(await embedded.send(ask))

    async def completion(self, **kwargs: Any) -> Completion:
        """The same for a text completion."""
        asked = completion_request(kwargs, keep_model=True)
        embedded = await self._engines.sessions()
        ask = sessions.open_call("completions", asked.content, lane=asked.lane, timeout_s=asked.timeout_s)
        return completion(await embedded.send(ask))

    async def get_logprobs(self, **kwargs: Any) -> dict[str, Any]:
        """How likely a prompt is."""
        asked = logprobs_request(kwargs)
        embedded = await self._engines.sessions()
        return await embedded.send(sessions.open_logprobs(asked.content, lane=asked.lane))

    async def tokens_and_logprobs_completion(
        self, **kwargs: Any
    ) -> tuple[list[int], list[list[int]], list[list[float]], list[str]]:
        """(prompt's tokens [P], samples' tokens [n][C], their log probabilities [n][C], finish reasons [n])."""
        return await sampled(self.session(SessionOptions()), completion_request(kwargs))

    async def wandb_metrics(self, metrics_dict: dict[str, Any], server_name: str | None) -> dict[str, Any]:
        """How long requests took and how many attempts they needed, under Atropos's names."""
        name = server_name or "server"
        statistics = self._state().statistics
        for prefix, told in (("", statistics.of_lane("train")), ("eval_", statistics.of_lane("eval"))):
            if told["requests"]:
                metrics_dict[f"server/{name}_{prefix}request_time_avg"] = told["mean_s"]
                metrics_dict[f"server/{name}_{prefix}request_time_std"] = told["std_s"]
                metrics_dict[f"server/{name}_{prefix}request_time_99p"] = told["p99_s"]
                attempts = f"server/{name}_{prefix}" + ("retry_rate" if prefix else "average_num_attempts")
                metrics_dict[attempts] = told["retry_rate" if prefix else "mean_attempts"]
        return metrics_dict

    def _state(self) -> EndpointState:
        return self._engines.states()[self._index]
