"""The table of engine arguments, against the engine that is really installed."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from moorage.catalog.bundle import read_yaml
from moorage.serving.spec.kwargs import FILE
from moorage.serving.spec.kwargs_reference import argument_faults, engine_arguments, installed_engine, write_reference

ROOT = Path(__file__).parents[2]


@pytest.mark.vllm
@pytest.mark.slow
def test_the_committed_table_is_what_the_real_engine_says(vllm_python: Path, tmp_path: Path) -> None:
    table = read_yaml(ROOT / FILE)
    found = engine_arguments(vllm_python, os.environ)
    assert found["engine"] == installed_engine(vllm_python) == table["engine"]
    assert [*argument_faults(table, found)] == []
    (tmp_path / "references").mkdir()
    shutil.copy(ROOT / FILE, tmp_path / FILE)
    assert write_reference(tmp_path, found) is False
