"""`moor` with a memory backend whose models are all answered at one address, that of a stub engine.

MOORAGE_TEST_ENDPOINT=http://127.0.0.1:9001/v1 python -m tests.contract.serving_with_endpoint serve api …
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any

from moorage.cli.main import main
from moorage.serving import backend_choice
from moorage.serving.backends.memory import MemoryBackend

ENDPOINT_ENV = "MOORAGE_TEST_ENDPOINT"


def open_backend(settings: Any, clock: Callable[[], float], environ: Any, **_: Any) -> MemoryBackend:
    """In the place of `moorage.serving.backend_choice.open_backend`."""
    del settings, environ
    return MemoryBackend(clock, start_s=0.2, stop_s=0.2, base_url=os.environ[ENDPOINT_ENV])


if __name__ == "__main__":
    backend_choice.open_backend = open_backend
    sys.exit(main())
