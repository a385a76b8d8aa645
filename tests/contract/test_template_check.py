"""`moor template check`: what it prints, what it exits with, and that its documents name what it finds."""

from __future__ import annotations

import json
import os
import pty
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len

from moorage.cli.main import main
from tests.conftest import ROOT

NANO = ROOT / "models" / "nano"
CHECKING = ROOT / "moorage" / "engines" / "rendering" / "checking"


class Told:
    """What one command printed."""

    def __init__(self, capsys: pytest.CaptureFixture[str], *words: str) -> None:
        self.rc = main(["template", *words])
        said = capsys.readouterr()
        self.out, self.err = said.out, said.err

    @property
    def json(self) -> dict[str, Any]:
        """The one object on stdout."""
        [line] = self.out.splitlines()
        found: dict[str, Any] = json.loads(line)
        return found


def files(folder: Path, template: str | None = None, **config: Any) -> Path:
    """Nano's tokenizer with another template, or none; `config` goes into tokenizer_config.json."""
    made = folder / "model"
    made.mkdir()
    shutil.copy(NANO / "tokenizer.json", made)
    known = json.loads((NANO / "tokenizer_config.json").read_text())
    known.pop("chat_template", None)
    (made / "tokenizer_config.json").write_text(json.dumps({**known, **config}))
    if template is not None:
        (made / "chat_template.jinja").write_text(template)
    return made


def test_the_tiny_models_template(capsys: pytest.CaptureFixture[str]) -> None:
    done = Told(capsys, "check", str(NANO), "--json")
    assert done.rc == 0
    assert done.json["ok"] is True
    data = done.json["data"]
    assert (data["verdict"], data["path"], data["name"]) == ("exact", str(NANO), None)
    assert [row["name"] for row in data["sessions"]] == [
        "chat",
        "chat with a system message",
        "tool calls",
        "tool calls with a system message",
        "questions with tools",
    ]
    assert {turn["verdict"] for row in data["sessions"] for turn in row["turns"][1:]} == {"exact"}
    for finding in data["findings"]:
        assert set(finding) == {"code", "effect", "title", "does", "advice", "example", "outcomes"}
        example = finding["example"]
        assert set(example) == {"left", "right", "character", "token"}
        assert set(example["left"]) == {"label", "text", "ids"}
    assert all(json.loads(line) for line in done.err.splitlines())


def test_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    """The place where two texts part is marked by a caret under it; nothing but text when it is no terminal."""
    done = Told(capsys, "check", str(NANO))
    assert done.rc == 0
    lines = done.out.splitlines()
    assert lines[0] == f"EXACT  {NANO}"
    assert "\x1b" not in done.out
    at = next(number for number, line in enumerate(lines) if line.strip() == "as a model may write it")
    caret = lines[at + 2].index("^")
    assert lines[at + 1][caret] == "a"
    assert lines[at + 5][caret] == "b"
    assert lines[at + 1][:caret] == lines[at + 4 + 1][:caret]
    assert lines[at + 3].strip().startswith("ids [")


def test_on_a_terminal_there_are_colours() -> None:
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "moorage.cli.main", "template", "check", str(NANO)]
    environ = {**os.environ, "TERM": "xterm", "COLUMNS": "100", "PYTHONPATH": str(ROOT)}
    environ.pop("NO_COLOR", None)
    with subprocess.Popen(command, stdout=theirs, stderr=subprocess.DEVNULL, env=environ) as process:
        os.close(theirs)
        shown = b""
        try:
            while chunk := os.read(ours, 65536):
                shown += chunk
        except OSError:  # the end of a terminal
            pass
    os.close(ours)
    assert process.returncode == 0
    assert b"\x1b[1;32mEXACT" in shown
    assert "└" not in shown.decode()


def test_a_script_does_the_same() -> None:
    command = [sys.executable, str(ROOT / "scripts" / "template.py"), "check", str(NANO), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["data"]["verdict"] == "exact"


@pytest.mark.parametrize("where", ["inside", "jinja", "named"])
def test_where_a_template_may_be(tmp_path: Path, capsys: pytest.CaptureFixture[str], where: str) -> None:
    source = (NANO / "chat_template.jinja").read_text()
    named = [{"name": "default", "template": source}, {"name": "tool_use", "template": source}]
    folder = {
        "inside": lambda: files(tmp_path, chat_template=source),
        "jinja": lambda: files(tmp_path, source),
        "named": lambda: files(tmp_path, chat_template=named),
    }[where]()
    assert Told(capsys, "check", str(folder), "--json").json["data"]["verdict"] == "exact"


def test_several_named_templates(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = (NANO / "chat_template.jinja").read_text()
    other = source.replace("# Tools", "# Functions")
    folder = files(tmp_path, chat_template=[{"name": "default", "template": source}])
    (folder / "additional_chat_templates").mkdir()
    (folder / "additional_chat_templates" / "tool_use.jinja").write_text(other)
    data = Told(capsys, "check", str(folder), "--json").json["data"]
    assert "template_by_name" in [finding["code"] for finding in data["findings"]]
    assert data["verdict"] == "exact with branches"
    chosen = Told(capsys, "check", str(folder), "--name", "tool_use", "--json").json["data"]
    assert (chosen["verdict"], chosen["name"]) == ("exact", "tool_use")
    wrong = Told(capsys, "check", str(folder), "--name", "rag", "--json")
    assert (wrong.rc, wrong.json["error"]["code"]) == (2, "bad_value")
    assert "default, tool_use" in wrong.json["error"]["message"]


def test_settings_and_tools(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tools = tmp_path / "tools.json"
    tools.write_text('[{"type": "function", "function": {"name": "dig_a_hole", "parameters": {"type": "object"}}}]')
    words = ("check", str(NANO), "--kwargs", '{"enable_thinking": false}', "--tools", str(tools), "--json")
    data = Told(capsys, *words).json["data"]
    example = next(one for one in data["findings"] if one["code"] == "tool_calls_reserialised")["example"]
    assert "dig_a_hole" in example["left"]["text"]
    assert "<think>\n\n</think>" in example["left"]["text"]


def test_a_template_that_only_the_engine_can_use(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Whatever is found, the exit status is 0: the template works."""
    source = (ROOT / "tests/unit/engines/rendering/templates/hostile.jinja").read_text()
    done = Told(capsys, "check", str(files(tmp_path, source)))
    assert done.rc == 0
    assert done.out.startswith("ENGINE  ")
    assert "every turn" in done.out


@pytest.mark.parametrize(
    ("words", "rc", "code"),
    [
        (("check", "{folder}/none"), 3, "not_found"),
        (("check", "{folder}/file"), 2, "bad_value"),
        (("check", "{folder}"), 5, "tokenizer_missing"),
        (("check",), 2, "usage"),
        (("look", "{nano}"), 2, "usage"),
        ((), 2, "usage"),
        (("check", "{nano}", "--kwargs", "{"), 2, "bad_value"),
        (("check", "{nano}", "--kwargs", "[1]"), 2, "bad_value"),
        (("check", "{nano}", "--kwargs", "[" * 5000), 2, "bad_value"),
        (("check", "x" * 5000), 2, "bad_value"),
        (("check", "a\0b"), 3, "not_found"),
        (("check", ""), 5, "tokenizer_missing"),
        (("check", "{nano}", "--tools", "{folder}/none"), 2, "bad_value"),
        (("check", "{nano}", "--tools", "{folder}/file"), 2, "bad_value"),
        (("check", "{nano}", "--tools", "{folder}"), 2, "bad_value"),
        (("check", "{nano}", "--name", "default"), 2, "bad_value"),
        (("check", "{nano}", "--fast"), 2, "usage"),
    ],
)
def test_what_it_does_not_take(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], rc: int, code: str
) -> None:
    (tmp_path / "file").write_text("{}")
    given = [word.replace("{folder}", str(tmp_path)).replace("{nano}", str(NANO)) for word in words]
    done = Told(capsys, *given, "--json")
    assert (done.rc, done.json["error"]["code"]) == (rc, code)
    plain = Told(capsys, *given)
    assert (plain.rc, plain.out) == (rc, "")
    assert plain.err.count("error: ") == 1


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("{% for", "no valid template"),
        ("{{ raise_exception('never again') }}", "never again"),
        ("{{ messages[9].content.a }}", "messages"),
        ("", "writes nothing"),
        ("{{ '\\ud800' }}", "half a character"),
    ],
)
def test_a_template_that_cannot_be_used(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], source: str, said: str
) -> None:
    done = Told(capsys, "check", str(files(tmp_path, source)), "--json")
    assert (done.rc, done.json["error"]["code"]) == (8, "template_failed")
    assert said in done.json["error"]["message"] or "refuses" in done.json["error"]["message"]


@pytest.mark.parametrize(
    ("name", "content", "code"),
    [
        ("tokenizer.json", b"{", "tokenizer_unreadable"),
        ("tokenizer.json", b'{"version": "1.0"}', "tokenizer_unreadable"),
        ("tokenizer_config.json", b"{", "tokenizer_unreadable"),
        ("chat_template.jinja", b"\xff\xfe", "tokenizer_unreadable"),
        ("chat_template.jinja", None, "template_missing"),
    ],
)
def test_a_folder_that_cannot_be_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, content: bytes | None, code: str
) -> None:
    folder = files(tmp_path, "x")
    (folder / name).unlink()
    if content is not None:
        (folder / name).write_bytes(content)
    done = Told(capsys, "check", str(folder), "--json")
    assert (done.rc, done.json["error"]["code"]) == (5, code)


def test_the_example_of_the_document_is_what_it_prints(capsys: pytest.CaptureFixture[str]) -> None:
    page = (ROOT / "docs" / "templates.md").read_text(encoding="utf-8")
    shown = page.partition("```text\n")[2].partition("```")[0].splitlines()
    printed = [line.rstrip() for line in Told(capsys, "check", str(NANO)).out.splitlines()]
    assert printed[0].removesuffix(str(NANO)) + "models/nano" == shown[0]
    assert printed[1 : len(shown)] == shown[1:]


def test_every_code_is_explained() -> None:
    codes = {code for path in CHECKING.glob("*.py") for code in re.findall(r'Finding\(\s*"(\w+)"', path.read_text())}
    codes |= {code for code in re.findall(r'_Order\(\s*"(\w+)"', (CHECKING / "roles.py").read_text())}
    codes |= {code for code in re.findall(r'"(\w+_(?:refused|unwritten))"', (CHECKING / "calls.py").read_text())}
    explained = set(re.findall(r"^\| `(\w+)` \|", (ROOT / "docs" / "templates.md").read_text(), re.MULTILINE))
    assert codes == explained & codes, sorted(codes - explained)
    assert explained <= codes | {"exact", "engine"}, sorted(explained - codes)
    assert len(codes) > 35


def test_a_templates_words_cannot_move_the_cursor(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    clear = "{{ raise_exception('\\x1b[2J gone') if tools else '\\x1b[2J' }}<|im_end|>{{ messages[-1].content }}"
    done = Told(capsys, "check", str(files(tmp_path, clear)))
    assert done.rc == 0
    assert "\x1b" not in done.out
    assert "gone" in done.out
    (tmp_path / "model" / "chat_template.jinja").write_text("{{ raise_exception('\\x1b[2J gone') }}")
    done = Told(capsys, "check", str(tmp_path / "model"))
    assert done.rc == 8
    assert "\x1b" not in done.err.partition("error:")[2]


def test_wide_letters_are_marked_where_they_stand(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wide = "{% for m in messages %}<|im_start|>{{ m.role }}你好你好{{ m.content | trim }}<|im_end|>{% endfor %}"
    done = Told(capsys, "check", str(files(tmp_path, wide + "<|im_start|>assistant你好你好")))
    lines = done.out.splitlines()
    at = next(number for number, line in enumerate(lines) if line.strip() == "as it was said")
    assert cell_len(lines[at + 1].partition("你好\\n")[0] + "你好") == lines[at + 2].index("^")
