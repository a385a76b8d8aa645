"""Keeps a route open: connects, checks, and connects again for as long as it lives."""

from __future__ import annotations

import threading
from collections.abc import Callable

from moorage.errors import MoorageError, PreflightError
from moorage.launch.tunnel.pauses import pause_s
from moorage.launch.tunnel.route import Route, Stream
from moorage.launch.tunnel.state_file import BROKEN, CONNECTING, UP

CHECK_S = 3.0
LOOK_S = 1.0
"""Between looks for a service that has not told yet where it listens."""

Tell = Callable[[str, str | None, str | None], None]
"""(state, detail, target): called at every look, also when nothing has changed."""


class Keeper:
    """`jitter` gives numbers from 0 to 1."""

    def __init__(
        self,
        route: Route,
        *,
        tell: Tell,
        jitter: Callable[[], float],
        check_s: float = CHECK_S,
        look_s: float = LOOK_S,
    ) -> None:
        self._route = route
        self._tell = tell
        self._jitter = jitter
        self._check_s = check_s
        self._look_s = look_s
        self._is_up = False
        self._look_now = threading.Event()
        self._ended = threading.Event()

    def run(self) -> None:
        """Until `end`; no fault of the route leaves it."""
        failures = 0
        while not self._ended.is_set():
            refused = False
            try:
                self._connect()
                failures = 0
                self._watch()
            except MoorageError as fault:
                refused = isinstance(fault, PreflightError)
                self._break(BROKEN, fault.message)
            except Exception as fault:  # a route's own mistake must not leave the user without a tunnel for good
                self._break(BROKEN, f"{type(fault).__name__}: {fault}")
            self._route.close()
            failures += 1
            # Nothing but the end cuts a pause short: each try is a login.
            self._ended.wait(pause_s(failures, self._jitter(), refused=refused))

    def open(self) -> Stream | None:
        """A connection to the service; None when there is no way now. A way that fails is looked at soon."""
        if not self._is_up:
            return None
        try:
            return self._route.open()
        except MoorageError:
            self.doubt()
            return None

    def doubt(self) -> None:
        """Look at the way soon: a connection failed, or nothing came of it."""
        self._look_now.set()

    def end(self) -> None:
        """Give the route up. Raises nothing, and waits for no answer."""
        self._ended.set()
        self._is_up = False
        self._look_now.set()
        self._route.close()

    def _connect(self) -> None:
        """Until it leads somewhere: as long as only the address is missing, the login is kept."""
        find = self._route.connect
        while not self._ended.is_set():
            try:
                find()
            except MoorageError as fault:
                if fault.code != "address_unknown":
                    raise
                self._break(CONNECTING, fault.message)
            else:
                return
            find = self._route.check
            self._ended.wait(self._look_s)

    def _watch(self) -> None:
        while not self._ended.is_set():
            self._is_up = True
            self._tell(UP, None, self._route.target)
            self._look_now.wait(self._check_s)
            self._look_now.clear()
            self._route.check()

    def _break(self, state: str, detail: str) -> None:
        self._is_up = False
        if not self._ended.is_set():
            self._tell(state, detail, self._route.target)
