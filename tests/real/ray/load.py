"""Chats, one after the other, for as long as something else goes on; what failed is kept."""

from __future__ import annotations

import statistics
import threading
import time
from types import TracebackType

import requests

__all__ = ["Load"]


class Load:
    """`with Load(base_url, model) as load: …`; afterwards `load.failed` has what was not a good answer."""

    def __init__(self, base_url: str, model: str, *, pause_s: float = 0.4) -> None:
        self.good_s: list[float] = []
        """How long each good answer took."""
        self.failed: list[str] = []
        self._url = f"{base_url}/chat/completions"
        self._body = {"model": model, "messages": [{"role": "user", "content": "What is your name?"}], "max_tokens": 4}
        self._pause_s = pause_s
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._go_on, daemon=True)

    def __enter__(self) -> Load:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, fault: BaseException | None, at: TracebackType | None) -> None:
        self._over.set()
        self._thread.join(120)

    def figures(self) -> str:
        """For those who read the log."""
        worst = max(self.good_s, default=0.0)
        middle = statistics.median(self.good_s) if self.good_s else 0.0
        return f"{len(self.good_s)} good, {len(self.failed)} failed, median {middle:.3f} s, worst {worst:.3f} s"

    def _go_on(self) -> None:
        with requests.Session() as http:
            http.trust_env = False
            while not self._over.wait(self._pause_s):
                self._ask(http)

    def _ask(self, http: requests.Session) -> None:
        begun = time.monotonic()
        try:
            reply = http.post(self._url, json=self._body, timeout=60)
        except requests.RequestException as fault:
            self.failed.append(repr(fault))
            return
        if reply.status_code == 200 and reply.json()["choices"][0]["message"]:
            self.good_s.append(time.monotonic() - begun)
        else:
            self.failed.append(f"{reply.status_code} {reply.text[:200]}")
