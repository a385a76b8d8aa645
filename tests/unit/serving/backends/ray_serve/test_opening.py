"""The backend as the settings say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from moorage.errors import PreflightError, UsageError
from moorage.serving.backends.contract import BackendUnreachable
from moorage.serving.backends.ray_serve.opening import end_local_cluster, open_ray_serve, owner_of
from moorage.serving.settings import Config, Llm, Ray, Settings
from tests.contract.platform_contract import free_port


def settings(db: str = "sqlite:////data/serving.db", llm: Llm | None = None, **ray: Any) -> Settings:
    return Settings(backend="ray_serve", db=db, config=Config(llm=llm or Llm(), ray=Ray(**ray)))


def test_one_database_is_one_owner() -> None:
    postgres = "postgresql://moor:secret@db:5432/serving"
    owners = [
        owner_of(settings(db))
        for db in (postgres, "postgresql://other:word@db:5432/serving", "postgresql://db:5432/b", "sqlite:////b.db")
    ]
    assert owners[0] == owners[1] and len(set(owners)) == 3
    assert all(one.startswith("moorage-") and "secret" not in one for one in owners)
    assert owner_of(settings(owner="team-a")) == "team-a"


def test_without_ray_it_says_how_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(PreflightError) as said:
        open_ray_serve(settings(), {"HOME": str(tmp_path)}, lambda: 0.0)
    assert said.value.code == "engine_missing" and said.value.next == ["moor engine ray --install"]
    with pytest.raises(PreflightError, match="MOORAGE_RAY_PYTHON"):
        open_ray_serve(settings(), {"HOME": str(tmp_path), "MOORAGE_RAY_PYTHON": "/none"}, lambda: 0.0)


def test_a_cluster_elsewhere_needs_no_ray_here(tmp_path: Path) -> None:
    address = f"http://127.0.0.1:{free_port()}"
    backend = open_ray_serve(settings(address=address), {"HOME": str(tmp_path)}, lambda: 0.0)
    with pytest.raises(BackendUnreachable, match=address):
        backend.observe()
    backend.close()
    assert end_local_cluster(settings(address=address), {"HOME": str(tmp_path)}, lambda: 0.0) is False


def test_a_token_that_is_named_must_be_there() -> None:
    with pytest.raises(PreflightError, match="RAY_TOKEN") as said:
        open_ray_serve(settings(address="http://ray:8265", token_env="RAY_TOKEN"), {}, lambda: 0.0)
    assert said.value.code == "ray_token_missing"


def test_a_kind_of_gpu_makes_no_sense_on_cpus() -> None:
    with pytest.raises(UsageError, match="accelerator_type"):
        open_ray_serve(settings(llm=Llm(accelerator="cpu", accelerator_type="H20")), {}, lambda: 0.0)


def test_there_is_no_cluster_to_end(tmp_path: Path) -> None:
    assert end_local_cluster(settings(), {"HOME": str(tmp_path)}, lambda: 0.0) is False
    assert not (tmp_path / ".local").exists()
