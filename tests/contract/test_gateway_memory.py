"""What the gateway keeps in memory of what is over: nothing."""

from __future__ import annotations

from pathlib import Path

from tests.contract.gateway_calls import SeveralChoices, chat, check_openai, init
from tests.contract.gateway_process import GatewayProcess, running_gateway


def test_what_is_complete_is_kept_in_no_memory(tmp_path: Path) -> None:
    """Not though it is asked for again, and it has no home with an engine any more."""
    with running_gateway(tmp_path, replies=SeveralChoices()) as gateway:
        before = _kept(gateway)
        for _ in range(3):
            made = init(gateway)
            assert gateway.post(f"{made['base_url']}/v1/chat/completions", chat()).status_code == 200
            assert gateway.post(f"{made['base_url']}/complete_trajectory", {"reward": 1.0}).status_code == 200
            check_openai(gateway.post(f"{made['base_url']}/v1/chat/completions", chat()), 409)
            assert gateway.post(f"{made['base_url']}/v1/complete_trajectory").status_code == 200
        assert _kept(gateway) == before == (0, 0)


def _kept(gateway: GatewayProcess) -> tuple[float, int]:
    """Copies of sessions and trajectories, and how many of them live at an engine."""
    lines = gateway.get("/metrics").text.splitlines()
    copies = next(line for line in lines if line.startswith("moorage_sessions_in_memory "))
    return float(copies.split()[-1]), sum(one["sessions"] for one in gateway.get("/servers").json()["servers"])
