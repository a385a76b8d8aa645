"""One backend for many who ask: what logs show, and how long one of them may take."""

from __future__ import annotations

from collections.abc import Iterator

from moorage.serving.api.shared_backend import READ_WITHIN_S, SharedBackend
from moorage.serving.backends.contract import AppState, Wanted
from moorage.serving.backends.memory import MemoryBackend
from moorage.serving.secrets import secrets_of
from moorage.serving.settings import Config, Launch, Ray, Settings
from moorage.serving.spec.spec import ServingSpec


class Talking(MemoryBackend):
    """Each replica writes three lines, and reading one takes as long as `slow_s`."""

    def __init__(self, slow_s: float = 0.0) -> None:
        super().__init__(lambda: 0.0)
        self.now = 0.0
        self.slow_s = slow_s
        self.read = 0

    def logs(self, app: str, lines: int) -> Iterator[str]:
        for replica in range(1000):
            self.now += self.slow_s
            self.read += 1
            yield from (f"r{replica} {app} {number}" for number in range(3))


def test_values_of_secrets_are_in_no_log() -> None:
    backend = SharedBackend(Talking(), lambda: 0.0, secrets={"ADMIN": "app-of-secrets", "SHORT": "r1"})
    read = list(backend.logs("app-of-secrets", 3))
    assert read[0] == "r0 <ADMIN> 0"
    assert not any("app-of-secrets" in line for line in read)
    assert any("r1" in line for line in read), "what is short is in too many words"


def test_values_of_secrets_are_in_nothing_that_is_said_of_an_application() -> None:
    memory = MemoryBackend(lambda: 0.0, start_s=0.0)
    spec = ServingSpec(model_id="memfail-m", model_source="org/a")
    memory.apply([Wanted(app="a", model_key="k", model_id="m", spec=spec)])
    [seen] = SharedBackend(memory, lambda: 0.0, secrets={"TOKEN": "memory backend"}).observe().values()
    assert (seen.state, "memory backend" in seen.message, "<TOKEN>" in seen.message) == (AppState.FAILED, False, True)


def test_a_long_reading_ends_after_a_replica_and_not_within_one() -> None:
    talking = Talking(slow_s=READ_WITHIN_S / 3)
    backend = SharedBackend(talking, lambda: 0.0, steady=lambda: talking.now)
    read = list(backend.logs("a", 3))
    assert read == [f"r{replica} a {number}" for replica in range(2) for number in range(3)]
    assert talking.read == 3
    quick = SharedBackend(Talking(), lambda: 0.0, steady=lambda: 0.0)
    assert len(list(quick.logs("a", 3))) == 3000


def test_the_secrets_are_those_of_the_control_plane() -> None:
    config = Config(ray=Ray(token_env="RAY"), launch=Launch(options={"token_env": "LEPTON", "replicas": 2}))
    settings = Settings(backend="memory", db="postgresql://me:p%40ss@h/d", config=config)
    environ = {
        **{"ADMIN": "admin-value", "RAY": " ray-value\n", "LEPTON": "lepton-value", "HF_TOKEN": "hf-value"},
        **{"PGPASSWORD": "pg-value", "OTHER": "other", "EMPTY": " "},
    }
    assert secrets_of(settings, environ, ["ADMIN", "GATEWAY", "EMPTY"], ["HF_TOKEN", "NGC_KEY"]) == {
        **{"ADMIN": "admin-value", "RAY": "ray-value", "LEPTON": "lepton-value", "HF_TOKEN": "hf-value"},
        **{"PGPASSWORD": "pg-value", "database password": "p@ss"},
    }
    assert secrets_of(Settings(backend="memory", db="sqlite:///x"), {}, [], []) == {}
