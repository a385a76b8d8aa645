"""docs/serving.md against the code: every code, reason, condition, flag, key and field, and none that is not there."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import yaml

from moorage import errors
from moorage.serving.config_file import KEYS
from moorage.serving.model import State
from moorage.serving.reasons import ACTIONS, CONDITIONS, Reason
from moorage.serving.spec.checking import FIELDS
from moorage.serving.spec.spec import ServingSpec
from tests.bundle.checkout import ROOT, codes, fenced, section, table_rows
from tests.bundle.test_documents import documented_codes, flags_of

PAGE = (ROOT / "docs/serving.md").read_text(encoding="utf-8")
FOLDERS = ("moorage/serving", "moorage/gateway/serving", "moorage/cli/models", "moorage/client/serving")
CODE = re.compile(r"[a-z][a-z0-9]*(?:_[a-z0-9]+)+")
MADE_OF_A_FIELD = {"invalid_model_source", "invalid_source"}
ONE_WORD = {"stale", "internal", "forbidden", "refused", "interrupted", "usage"}
TELLS = ("Fault", "_fault", "_wrong", "_refused", "SpecError")
"""What is called with a code as a plain argument."""


def syntax() -> Iterator[ast.AST]:
    """Every node of the serving plane's code."""
    for folder in FOLDERS:
        for file in sorted((ROOT / folder).rglob("*.py")):
            yield from ast.walk(ast.parse(file.read_text(encoding="utf-8")))


def raised() -> dict[str, set[str]]:
    """Code → the names of what it is raised with."""
    found: dict[str, set[str]] = {}
    for node in syntax():
        for name, value in [*told_in_call(node), *own_of_class(node)]:
            for part in (value.body, value.orelse) if isinstance(value, ast.IfExp) else (value,):
                if isinstance(part, ast.Constant) and isinstance(part.value, str) and is_code(part.value):
                    found.setdefault(part.value, set()).add(name)
    return found


def told_in_call(node: ast.AST) -> list[tuple[str, ast.expr]]:
    """(what is called, each argument that may be a code); an error without one says its class's."""
    if not isinstance(node, ast.Call):
        return []
    name = getattr(node.func, "attr", getattr(node.func, "id", ""))
    given = [keyword.value for keyword in node.keywords if keyword.arg == "code"]
    given += [one for one in node.args[1:] if name in TELLS]
    if not given and name in errors.__all__:
        given = [ast.Constant(vars(errors)[name].code)]
    return [(name, value) for value in given]


def own_of_class(node: ast.AST) -> list[tuple[str, ast.expr]]:
    """(the class, what it has as `code`)."""
    if not isinstance(node, ast.ClassDef):
        return []
    lines = [one for one in node.body if isinstance(one, ast.Assign | ast.AnnAssign) and one.value is not None]
    targets = [(one.targets[0] if isinstance(one, ast.Assign) else one.target, one.value) for one in lines]
    return [(node.name, value) for target, value in targets if getattr(target, "id", "") == "code" and value]


def is_code(text: str) -> bool:
    return CODE.fullmatch(text) is not None or text in ONE_WORD


def named() -> set[str]:
    """Every code that the page names."""
    return {code for code in codes(re.sub(r"^```.*?^```$", "", PAGE, flags=re.MULTILINE | re.DOTALL)) if is_code(code)}


def test_every_code_of_the_plane_is_on_the_page() -> None:
    of_code = set(raised())
    assert len(of_code) > 60
    assert of_code - named() - set(documented_codes()) == set()


def test_the_codes_of_the_tables_exist() -> None:
    files = [file for folder in (*FOLDERS, "moorage/client/http") for file in sorted((ROOT / folder).rglob("*.py"))]
    source = "".join(file.read_text(encoding="utf-8") for file in (*files, ROOT / "moorage/errors.py"))
    tables = [row for row in table_rows(PAGE) if len(row) in (3, 4) and row[-2].strip().isdigit()]
    told = {code for row in tables for code in codes(row[0])}
    assert len(told) > 60
    assert {code for code in told - MADE_OF_A_FIELD if f'"{code}"' not in source} == set()


def test_the_exits_of_the_tables_are_those_of_the_classes() -> None:
    """Or the statuses over HTTP."""
    classes = {name: getattr(errors, name) for name in errors.__all__}
    of_code = raised()
    for row in table_rows(PAGE):
        if len(row) != 3 or not row[1].isdigit():
            continue
        for code in codes(row[0]):
            known = [classes[name] for name in of_code.get(code, ()) if name in classes]
            said = {status for one in known for status in (one.exit_status, one.http_status)}
            assert not known or int(row[1]) in said, code


def test_reasons_conditions_and_states() -> None:
    assert set(ACTIONS) == set(Reason)
    rows = {row[0]: row[1] for row in table_rows(section(PAGE, "Conditions"))}
    assert rows == {f"`{name}`": text for name, text in {**CONDITIONS, **ACTIONS}.items()}
    states = [codes(row[0])[0] for row in table_rows(section(PAGE, "States")) if row[0].strip("`").isupper()]
    assert states == [state.value for state in State]


def test_every_field_of_a_spec() -> None:
    rows = [codes(row[0])[0] for row in table_rows(section(PAGE, "The spec")) if row[0].startswith("`")]
    assert rows[: len(FIELDS)] == list(FIELDS) == [one.name for one in fields(ServingSpec)]


def test_every_key_of_the_configuration() -> None:
    assert {codes(row[0])[0] for row in table_rows(section(PAGE, "Configuration"))} == set(KEYS)


def test_every_flag_of_the_api() -> None:
    table = [row for row in table_rows(section(PAGE, "Start it")) if row[0].startswith("`--")]
    told = {word.split()[0] for row in table for word in codes(row[0])}
    assert told == {flag for flag in flags_of("serve api") if flag.startswith("--")} - {"--json", "--help"}


def test_every_route() -> None:
    """As they are added to the application."""
    told = {code for row in table_rows(section(PAGE, "Routes")) for code in codes(row[0])}
    with_docs = {*told, "GET /docs", "GET /openapi.json"}
    assert {word.split("/", 1)[1] for word in with_docs} >= {path.lstrip("/") for path in added_paths()}


def added_paths() -> set[str]:
    """The paths that the routes' files add, put together from their constants."""
    known: dict[str, str] = {}
    for _ in range(2):  # one file takes another's constants
        found: set[str] = set()
        for file in sorted((ROOT / "moorage/serving/api/routes").glob("*.py")):
            tree = ast.parse(file.read_text(encoding="utf-8"))
            for node in tree.body:
                if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                    known[node.targets[0].id] = text_of(node.value, known) or known.get(node.targets[0].id, "")
            calls_of = (one for one in ast.walk(tree) if isinstance(one, ast.Call))
            found |= {
                text_of(one.args[0], known) for one in calls_of if getattr(one.func, "attr", "") == "add_api_route"
            }
    return found - {"/docs/{file}"}


def text_of(node: ast.expr, known: dict[str, str]) -> str:
    """A constant text, with constants in it or added to it."""
    if isinstance(node, ast.BinOp):
        return text_of(node.left, known) + text_of(node.right, known)
    if isinstance(node, ast.JoinedStr):
        return "".join(text_of(part, known) for part in node.values)
    if isinstance(node, ast.FormattedValue):
        return text_of(node.value, known)
    if isinstance(node, ast.Name):
        return known.get(node.id, "")
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""


def test_the_spec_that_is_shown_is_one() -> None:
    [shown] = [block for block in fenced(PAGE, "yaml") if "model_source" in block]
    assert set(yaml.safe_load(shown)) <= set(FIELDS)


def test_the_sample_of_the_references_is_one() -> None:
    sample = ROOT / "references" / "examples" / "serving.yaml"
    for document in yaml.safe_load_all(sample.read_text(encoding="utf-8")):
        assert set(document) <= set(FIELDS)
        assert {"model_id", "model_source"} <= set(document)


def test_the_page_is_linked() -> None:
    for name in ("README.md", "SKILL.md", "docs/cli.md"):
        assert "serving.md" in (Path(ROOT) / name).read_text(encoding="utf-8")
