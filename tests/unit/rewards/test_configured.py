"""Names, files and options: what can be asked for, and what is said of the rest."""

from __future__ import annotations

import tomllib
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest

from moorage.errors import FailedError, UsageError
from moorage.rewards.configured import configure, read_config
from moorage.rewards.installed import OURS, find_installed, installed
from moorage.rewards.loading import describe, load

ROOT = Path(__file__).resolve().parents[3]
KNOWN = installed([])


def code_of(names: str | None, config: Any) -> str:
    with pytest.raises(UsageError) as told:
        configure(names, config, KNOWN)
    assert "canary" not in f"{told.value.message} {told.value.hint}"
    return told.value.code


def test_ours_are_entry_points() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["entry-points"]["moorage.rewards"] == OURS


def test_names_and_their_order() -> None:
    config = {"rewards": {"judge": {"function": "remote", "options": {"key_env": "K"}, "env": ["E"]}, "exact": None}}
    assert [one.name for one in configure(None, config, KNOWN)] == ["judge", "exact"]
    assert [one.name for one in configure(" exact , judge", config, KNOWN)] == ["exact", "judge"]
    [numeric] = configure("numeric", config, KNOWN)
    assert (numeric.target, numeric.options, numeric.env) == (OURS["numeric"], {}, ())
    judge = configure("judge", config, KNOWN, cores=1)[0]
    assert (judge.target, judge.env, judge.processes) == (OURS["remote"], ("E", "K"), 1)
    assert configure("exact", None, KNOWN, cores=64)[0].processes == 4


def test_unknown_names_are_told_with_the_known() -> None:
    with pytest.raises(UsageError) as told:
        configure("exakt", None, KNOWN)
    assert (told.value.code, told.value.hint) == ("reward_unknown", "did you mean exact?")
    assert "exact, json_schema, math, numeric, regex, remote" in told.value.message
    for names in ("", "exact,", ",exact", "exact exact"):
        assert code_of(names, None) == "reward_unknown"
    assert code_of("exact,exact", None) == "reward_config"
    assert code_of(None, {"rewards": {"judge": {"function": "nope"}}}) == "reward_unknown"


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"rewards": ["exact"]},
        {"reward": {"exact": {}}},
        {"rewards": {"exact": 3}},
        {"rewards": {"exact": {"time": 3}}},
        {"rewards": {"exact": {"timeout_s": 0}}},
        {"rewards": {"exact": {"timeout_s": "canary"}}},
        {"rewards": {"exact": {"processes": 0}}},
        {"rewards": {"exact": {"processes": 1000}}},
        {"rewards": {"exact": {"memory_mb": -1}}},
        {"rewards": {"exact": {"env": ["A=canary"]}}},
        {"rewards": {"a b": {}}},
        {"rewards": {"": {}}},
        {"rewards": {3: {}}},
    ],
)
def test_configs_of_the_wrong_shape(config: Any) -> None:
    assert code_of(None, config) == "reward_config"


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        "{",
        "3",
        "",
        "a: b: canary",
        "!!python/object:os.system {}",
        "&a [*a]",
        "rewards: {exact: {options: &a {b: *a}}}",
    ],
)
def test_files_of_the_wrong_shape(tmp_path: Path, text: str) -> None:
    file = tmp_path / "rewards.yaml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(UsageError, match=r"rewards\.yaml") as told:
        read_config(file)
    assert told.value.code == "reward_config"
    assert "canary" not in told.value.message
    for other in (tmp_path / "none", tmp_path):
        with pytest.raises(UsageError, match="--reward-config"):
            read_config(other)


def test_two_packages_with_one_name() -> None:
    mine = EntryPoint("exact", "mine.rewards:exact", "moorage.rewards")
    other = EntryPoint("other", "mine.rewards:other", "moorage.rewards")
    found = installed([mine, other, EntryPoint("exact", OURS["exact"], "moorage.rewards")])
    assert [one.name for one in found].count("exact") == 2
    assert find_installed("other", found).target == "mine.rewards:other"
    with pytest.raises(UsageError) as told:
        find_installed("exact", found)
    assert told.value.code == "reward_ambiguous"


# Loading


class Old:
    """Written without dataclasses."""

    def __init__(self, word: str, times: int = 1) -> None:
        if times < 0:
            raise ValueError("times")
        self.word, self.times = word, times

    def __call__(self, sample: Any) -> float:
        return float(self.times)


def plain(sample: Any) -> float:
    return 1.0


NOT_CALLABLE = 3
HERE = __name__


def test_options_reach_a_function() -> None:
    assert load(f"{HERE}:Old", {"word": "a", "times": 3}).call(None) == 3.0  # type: ignore[arg-type]
    assert load(f"{HERE}:plain", {}).call(None) == 1.0  # type: ignore[arg-type]
    assert load(OURS["exact"], {"ignore_case": True}).call.ignore_case  # type: ignore[attr-defined]
    assert load(OURS["remote"], {"url": "http://h/"}).lanes == 32


@pytest.mark.parametrize(
    ("target", "options", "words"),
    [
        (f"{HERE}:plain", {"a": 1}, "takes no options: a"),
        (f"{HERE}:Old", {"word": "a", "wrod": "a"}, "no option 'wrod': there are word, times"),
        (f"{HERE}:Old", {}, "the option word is missing"),
        (OURS["regex"], {}, "the option pattern is missing"),
        (OURS["regex"], {"pattern": "("}, "pattern: "),
        (OURS["exact"], {"ignore_case": "yes"}, r"Expected `bool`, got `str` - at `\$.ignore_case`"),
        (OURS["exact"], {"take": "all"}, r"\$.take"),
        (OURS["exact"], {"version": "2"}, "no option 'version'"),
    ],
)
def test_options_that_are_wrong(target: str, options: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        load(target, options)


@pytest.mark.parametrize(
    "target", ["nowhere:x", f"{HERE}:none", f"{HERE}:NOT_CALLABLE", ":", "", "a.b", "os:path.none"]
)
def test_what_cannot_be_loaded(target: str) -> None:
    for ask in (lambda: load(target, {}), lambda: describe(target)):
        with pytest.raises(FailedError) as told:
            ask()
        assert told.value.code == "reward_unloadable"


@pytest.mark.parametrize("name", sorted(OURS))
def test_every_one_of_ours_says_what_it_is(name: str) -> None:
    said = describe(OURS[name])
    assert said.summary.endswith(".")
    assert said.version
    assert all(option.type != "any" for option in said.options)
