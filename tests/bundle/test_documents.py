"""The documents against the checkout and the code: all of it is there, and nothing that is not."""

from __future__ import annotations

import importlib
import re
import shlex
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from moorage import errors
from moorage.catalog.catalog import load_catalog
from moorage.catalog.engine_python import python_variable
from moorage.cli.main import SUBVERBS, VERBS
from moorage.cli.parser import EXITS, Parser
from moorage.launch.platforms import PLATFORMS
from moorage.launch.platforms.slurm.faults import WRONG
from tests.bundle.checkout import ROOT, codes, documents, fenced, files, section, table_rows
from tests.bundle.source import error_codes, variables_read
from tests.conftest import Moor

DOCUMENTS = documents()
CLI, README = DOCUMENTS["docs/cli.md"], DOCUMENTS["README.md"]
OURS = re.compile(r"\bMOORAGE_[A-Z_]+\b")

FORBIDDEN = {
    "a path of one machine": r"(?<![A-Za-z0-9_.])/(?:[w]ork|[o]pt|home/(?!me/)\w+|Users/\w+)/|/tmp/[w]/",
    "a registry that is not public": r"[n]vstaging",
    "a text that readers do not have": (
        r"\b[s]eed 0\d\d\b|\b[s]eeds/|the [s]eed's|\b[f]acts/|\.\./[s]hared|[D]ESIGN\.md|\b[c]ontracts/\w+\.md"
        r"|\b[i]ssue #?\d|\bthe [i]ssue\b"
    ),
}
"""Letters in brackets, so that this file does not hold what it looks for."""

PUBLIC_HOSTS = {
    *("docs.nvidia.com", "download.pytorch.org", "index.docker.io", "json-schema.org", "nvcr.io"),
    *("api.anthropic.com", "api.openai.com", "eu.api.openai.com", "openrouter.ai"),
    *("kubernetes.default.svc", "v1.gpu.local", "www.apache.org", "www.w3.org"),
}
NEVER_TOLD = {"bad_method", "bad_target", "bad_header", "record_broken"}
"""Faults of a caller within the package, which no request and no store that opens can bring about."""

SOURCES = ("moorage/", "scripts/", "bench/", "tests/real/parts/")
NOT_OURS = ("LICENSE", "references/constraints/", "models/nano/")


# ---- the checkout ------------------------------------------------------------------------------------------------


def test_the_tree_of_the_readme_is_the_checkout() -> None:
    [tree] = [block for block in fenced(README, "text") if "moorage/launch/" in block]
    rows = [line.split(None, 1) for line in tree.splitlines() if line.strip()]
    assert all(len(row) == 2 for row in rows), "each line is a name and what it is"
    folders = {f"{Path(name).parent}/" for name in files() if "/" in name}
    assert {row[0] for row in rows} == folders | {name for name in files() if "/" not in name}


def test_the_readmes_test_command_is_what_ci_runs() -> None:
    assert "scripts/test\n" in fenced(section(README, "Tests"), "bash")[0]
    runner = (ROOT / ".ci/run").read_text()
    assert re.search(r"^exec scripts/test\b", runner, re.MULTILINE)
    assert "export MOORAGE_REQUIRE_REAL=1" in runner


@pytest.mark.parametrize("name", DOCUMENTS)
def test_links_lead_somewhere(name: str) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", DOCUMENTS[name]):
        if urlsplit(target).scheme:
            continue
        path, _, anchor = unquote(target).partition("#")
        place = (ROOT / name).parent / path if path else ROOT / name
        assert place.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.+)$", place.read_text(), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w -]", "", title).strip().lower().replace(" ", "-") for title in headings}


@pytest.mark.parametrize("why", FORBIDDEN)
def test_nothing_committed_names(why: str) -> None:
    found = [
        f"{name}:{number}: {line.strip()[:100]}"
        for name in files()
        if not name.startswith(NOT_OURS)
        for number, line in enumerate((ROOT / name).read_text(encoding="utf-8", errors="replace").splitlines(), 1)
        if re.search(FORBIDDEN[why], line)
    ]
    assert found == []


def test_only_public_hosts_are_named() -> None:
    """Of package hosts PyTorch's index alone, for torch on a CPU. Made-up hosts have no dot, or are examples."""
    for name in files():
        if name.startswith(NOT_OURS):
            continue
        for host in re.findall(r"https?://([A-Za-z0-9.-]+)", (ROOT / name).read_text(errors="replace")):
            made_up = re.fullmatch(r"[^.]+|[\d.]+", host) or host.endswith((".example", "example.com", "example.org"))
            assert made_up or host in PUBLIC_HOSTS, f"{host} in {name}"


# ---- verbs and flags ---------------------------------------------------------------------------------------------


def parser_of(verb: str) -> Parser:
    module = importlib.import_module(f"moorage.cli.verbs.{verb.replace(' ', '_')}")
    parser = Parser(verb, module.SUMMARY)
    module.add_arguments(parser)
    return parser


def flags_of(verb: str) -> set[str]:
    return {flag for action in parser_of(verb)._actions for flag in action.option_strings}


def commands(text: str) -> list[list[str]]:
    """Every `moor VERB …` in code, as words; what stands after ` -- ` is the server's."""
    blocks = [block.replace("\\\n", " ") for block in fenced(text, "bash")]
    lines = [line for block in blocks for line in block.splitlines()]
    lines += re.findall(r"`(moor [^`]+)`", re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL))
    found = [re.sub(r"^\S*bin/(?=moor )", "", line.strip()) for line in lines]
    return [shlex.split(line.partition(" -- ")[0], comments=True) for line in found if line.startswith("moor ")]


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_command_in_a_document_is_one_that_there_is(name: str) -> None:
    for words in commands(DOCUMENTS[name]):
        verb = " ".join(words[1:3]) if " ".join(words[1:3]) in SUBVERBS else words[1]
        if verb.isupper():
            continue  # a placeholder
        assert verb in VERBS or verb in SUBVERBS, words
        used = {word.partition("=")[0] for word in words if word.startswith("--")}
        assert used <= flags_of(verb) | {"--help"}, words


def test_complete_commands_of_the_skill_are_taken_by_the_parser() -> None:
    """Not only are the flags there: what the skill says to type is a whole command."""
    values = {"PATH": "hf_model://org/model", "ARCH": "vllm", "PLATFORM": "local-docker", "JOB_ID": "x"}
    typed = [words for block in fenced(DOCUMENTS["SKILL.md"], "bash") for words in commands(f"```bash\n{block}```\n")]
    assert len(typed) >= 10
    for words in typed:
        assert "--json" in words, words
        parser_of(words[1]).parse([values.get(word, word) for word in words[2:]])


def test_every_verb_is_in_the_readme_and_the_reference() -> None:
    assert {name for row in table_rows(section(README, "Commands")) for name in codes(row[0])} >= set(VERBS)
    assert set(re.findall(r"^### moor (\w+)$", CLI, re.MULTILINE)) == set(VERBS)
    table = {name for row in table_rows(section(CLI, "Values")) for name in codes(row[0])}
    assert {name for name in table if " " not in name} == set(VERBS)


@pytest.mark.parametrize(
    "words",
    [
        *(["archs"], ["image", "vllm"], ["list"], ["doctor"], ["validate", "--check"], ["prune"]),
        ["start", "--dry-run", "--network-arch", "vllm", "--model-path", "hf_model://org/model"],
    ],
    ids=lambda words: words[0],
)
def test_the_data_of_a_verb_is_what_the_reference_says(moor: Moor, words: list[str]) -> None:
    """What a service answers is held against the documents in test_entries.py."""
    name = "start --dry-run" if "--dry-run" in words else words[0]
    [row] = [row for row in table_rows(section(CLI, "Values")) if row[0] == f"`{name}`"]
    data = moor(*words, "--json").out["data"]
    inner = next(iter(data.values())) if len(data) == 1 else None
    inner = inner[0] if isinstance(inner, list) and inner else inner
    assert set(codes(row[1])) == set(data) | (set(inner) if isinstance(inner, dict) else set())


def test_every_platform_and_arch_is_in_the_readme() -> None:
    for name in (*PLATFORMS, *load_catalog(ROOT).archs):
        assert name in README


# ---- exit codes, error codes, variables --------------------------------------------------------------------------


def exit_statuses() -> set[int]:
    classes = [getattr(errors, name) for name in errors.__all__]
    return {0} | {one.exit_status for one in classes}


def test_exit_codes_are_the_same_everywhere() -> None:
    assert {int(row[0]) for row in table_rows(section(CLI, "Exit codes"))} == exit_statuses()
    assert {int(number) for number in re.findall(r"\b\d+\b", EXITS)} == exit_statuses()


def documented_codes() -> dict[str, set[int]]:
    found: dict[str, set[int]] = {}
    for row in table_rows(section(CLI, "Error codes")):
        for code in codes(row[0]):
            found[code] = {int(number) for number in row[1].split(",")}
    return found


def test_every_error_code_is_documented_with_its_exit_code_and_no_other() -> None:
    readiness = load_catalog(ROOT).service.readiness
    packages = {f"{name}_package_missing": {5} for name in ("docker", "paramiko")}  # made of the package's name
    refusals = {code: {2} for code in WRONG} | {f"{flag}_missing": {5} for flag in ("pvc", "image_pull_secret")}
    raised = error_codes(served=False) | packages | refusals | {reason: {8} for reason in readiness.fatal_reasons}
    documented = documented_codes()
    assert set(documented) - set(raised) <= set(error_codes(served=True)), "what `moor gateway` may meet at its start"
    assert set(raised) <= set(documented)
    for code, exits in raised.items():
        assert exits <= documented[code], code


def test_every_code_of_the_gateway_is_documented() -> None:
    page = DOCUMENTS["docs/gateway.md"]
    named = {code for row in table_rows(page) for cell in row for code in codes(cell)} | set(documented_codes())
    assert set(error_codes(served=True)) - NEVER_TOLD <= named


def test_every_error_code_that_a_document_names_exists() -> None:
    known = set(documented_codes())
    for name in ("SKILL.md", *(f"skills/platform/{platform}/SKILL.md" for platform in PLATFORMS)):
        for row in table_rows(section(DOCUMENTS[name], "Troubleshooting")):
            cell = row[2] if name == "SKILL.md" else row[0]
            named = {code for code in codes(cell) if re.fullmatch(r"[a-z]+(_[a-z]+)+", code)}
            assert named <= known, name


def test_every_variable_that_is_read_is_in_the_readme_and_no_other() -> None:
    configuration = section(README, "Configuration")
    documented = {name for name in codes(configuration) if re.fullmatch(r"[A-Z][A-Z0-9_]+", name)}
    catalog = load_catalog(ROOT)
    source = [
        ROOT / name for name in files() if name.startswith(("moorage/", "scripts/", "bench/", "tests/real/parts/"))
    ]
    ours = {name for path in source for name in OURS.findall(path.read_text(encoding="utf-8"))}
    ours = {name for name in ours if not name.endswith("_")}
    engines = {python_variable(one.engine) for one in catalog.service.container_commands.values() if one.engine}
    images = set(catalog.service.docker_image_defaults.env_overrides.values())
    others = variables_read("moorage", "bench") | {catalog.service.docker_run_reference.network_env, "HF_TOKEN"}
    assert documented == ours | engines | images | others


@pytest.mark.parametrize("name", DOCUMENTS)
def test_no_document_names_a_variable_that_nothing_reads(name: str) -> None:
    known = {variable for variable in codes(section(README, "Configuration")) if OURS.fullmatch(variable)}
    assert set(OURS.findall(DOCUMENTS[name])) <= known
