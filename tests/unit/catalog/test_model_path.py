from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from moorage.catalog.catalog import load_catalog
from moorage.catalog.model_path import folder_warning, parse_model_path, served_model_name, shown
from moorage.errors import UsageError

ROOT = Path(__file__).parents[3]
ANY_TEXT = st.text(st.characters(codec=None, exclude_categories=()))
"""Lone surrogates and NUL too."""


def refusal(text: str) -> UsageError:
    with pytest.raises(UsageError) as caught:
        parse_model_path(text)
    assert caught.value.code == "bad_model_path"
    assert caught.value.exit_status == 2
    assert "/" in caught.value.hint, "the hint has no example"
    return caught.value


@pytest.mark.parametrize("name", ["Qwen/Qwen2.5-0.5B-Instruct", "a/b", "nvidia/Cosmos_Reason1.7B", f"{'o' * 96}/m"])
def test_hugging_face_models_keep_and_lose_their_prefix(name: str) -> None:
    path = parse_model_path(f"hf_model://{name}")
    assert (path.form, path.name, path.text) == ("hf_model", name, f"hf_model://{name}")


@pytest.mark.parametrize(
    "text",
    [
        "/models/m",
        "/a b/'q' \"d\"/$HOME `x`",
        "/модель/模型/🚀",
        "/line\nbreak",
        "/m/",
        "//m",
        "/a/./b",
        "/..m/a..",
        "/-x",
    ],
)
def test_absolute_paths_are_kept_byte_for_byte(text: str) -> None:
    path = parse_model_path(text)
    assert (path.form, path.text, path.name) == ("absolute", text, text)


@pytest.mark.parametrize(
    ("text", "reason", "example"),
    [
        ("", "empty", "hf_model://"),
        ("s3://bucket/m", "cloud storage", "--mount"),
        ("GS://bucket/m", "cloud storage", "--mount"),
        ("az://c/m", "cloud storage", "--mount"),
        ("cs://c/m", "cloud storage", "--mount"),
        ("aws://c/m", "cloud storage", "--mount"),
        ("hf://Qwen/Qwen3-0.6B", "wrong prefix", "write hf_model://Qwen/Qwen3-0.6B"),
        ("HF_MODEL://Qwen/Qwen3-0.6B", "wrong prefix", "write hf_model://Qwen/Qwen3-0.6B"),
        ("hf_model:Qwen/Qwen3-0.6B", "wrong prefix", "write hf_model://Qwen/Qwen3-0.6B"),
        ("file:///models/m", "URI", "/models/m"),
        ("https://example.com/m", "https://", "hf_model://"),
        ("Qwen/Qwen3-0.6B", "leading /", "did you mean hf_model://Qwen/Qwen3-0.6B?"),
        ("models/my/m", "relative", "/models/m"),
        ("./m", "relative", "/models/m"),
        ("m", "relative", "/models/m"),
        ("~/m", "relative", "/models/m"),
        ("C:\\models", "relative", "/models/m"),
        ("/models/../etc", "'..'", "/models/m"),
        ("/..", "'..'", "/models/m"),
        ("../m", "relative", "/models/m"),
        ("/", "root", "/models/m"),
        ("/./", "root", "/models/m"),
        ("/a\x00b", "NUL", "/models/m"),
        ("/a\udcffb", "Unicode", "/models/m"),
        ("/" + "x" * 4096, "4096", "/models/m"),
        ("hf_model://Qwen", "Hugging Face", "exactly"),
        ("hf_model://a/b/c", "Hugging Face", "exactly"),
        ("hf_model://a/b/", "Hugging Face", "exactly"),
        ("hf_model:///b", "Hugging Face", "exactly"),
        ("hf_model://a/b--c", "Hugging Face", "exactly"),
        ("hf_model://a/b.git", "Hugging Face", "exactly"),
        ("hf_model://../b", "Hugging Face", "exactly"),
        ("hf_model://a/.b", "Hugging Face", "exactly"),
        ("hf_model://a/b..c", "Hugging Face", "exactly"),
        ("hf_model://a/b--c", "Hugging Face", "exactly"),
        ("hf_model://a/b.git", "Hugging Face", "exactly"),
        ("hf_model://../b", "Hugging Face", "exactly"),
        ("hf_model://a/b c", "Hugging Face", "exactly"),
        ("hf_model://a/b\n", "Hugging Face", "exactly"),
        ("hf_model://a/é", "Hugging Face", "exactly"),
        (f"hf_model://a/{'b' * 97}", "Hugging Face", "96"),
    ],
)
def test_other_forms_are_refused_with_reason_and_example(text: str, reason: str, example: str) -> None:
    fault = refusal(text)
    assert reason in fault.message
    assert example in fault.hint


@given(ANY_TEXT)
@example("s3:")
@example("hf_model:")
def test_any_text_is_read_or_refused_in_words_that_can_be_printed(text: str) -> None:
    try:
        path = parse_model_path(text)
    except UsageError as fault:
        f"{fault.message} {fault.hint}".encode()
    else:
        assert path.text == text
        assert text.startswith(("/", "hf_model://"))


@given(st.lists(ANY_TEXT.filter(lambda part: "/" not in part), min_size=1, max_size=6))
def test_absolute_paths_are_refused_for_the_stated_reasons_alone(parts: list[str]) -> None:
    text = "/" + "/".join(parts)
    broken = any(character == "\x00" or 0xD800 <= ord(character) < 0xE000 for character in text)
    if broken or ".." in parts or all(part in ("", ".") for part in parts):
        refusal(text)
    else:
        assert parse_model_path(text).text == text


@given(
    st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,97}", fullmatch=True),
    st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,97}", fullmatch=True),
)
def test_repository_names_follow_the_hub(org: str, model: str) -> None:
    good = all(
        len(part) <= 96 and part[-1] not in "-." and ".." not in part and "--" not in part for part in (org, model)
    )
    text = f"hf_model://{org}/{model}"
    if good and not model.endswith(".git"):
        assert parse_model_path(text).name == f"{org}/{model}"
    else:
        refusal(text)


def test_every_form_of_the_reference_is_treated_as_it_says() -> None:
    forms = load_catalog(ROOT).service.model_path_protocols
    assert {form.accepted for form in forms} == {True, False}
    for form in forms:
        if form.accepted:
            assert parse_model_path(form.example).text == form.example
        else:
            refusal(f"{form.form}bucket/m" if form.form.endswith("//") else form.form)


def test_credentials_of_a_uri_are_not_repeated() -> None:
    for text in ("s3://key:hunter2hunter2@bucket/m", "https://host/m?token=hunter2hunter2#hunter2hunter2"):
        fault = refusal(text)
        assert "hunter2" not in fault.message + fault.hint
    assert shown("https://u:p@h/x") == "'https://h/x'"


@pytest.mark.parametrize(
    ("sidecar", "text", "word"),
    [
        ("checkpoint_folder", "/m/model.safetensors", "looks like a file"),
        ("checkpoint_folder", "/m/model.pt/", "looks like a file"),
        ("checkpoint_folder", "/m/model", None),
        ("huggingface_model_or_folder", "/m/Qwen2.5", None),
        ("huggingface_model_or_folder", "/m/llama-3.1-8b", None),
        ("checkpoint_folder", "/m/.hidden", None),
        ("parent_model", "/m/model", "looks like a folder"),
        ("parent_model", "/m/model.pth", None),
        ("parent_model", "hf_model://a/b", None),
        ("checkpoint_folder", "hf_model://a/b.pt", None),
    ],
)
def test_folder_and_file_are_told_apart_by_the_suffix(sidecar: str, text: str, word: str | None) -> None:
    warning = folder_warning(sidecar, parse_model_path(text))
    assert warning is None if word is None else warning is not None and word in warning


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("hf_model://Qwen/Qwen3-0.6B", "Qwen/Qwen3-0.6B"),
        ("/models/nano", "nano"),
        ("/models/nano/", "nano"),
        ("/models/nano/.", "nano"),
        ("/models/my model é", "my model é"),
        ("/models/-x", "_x"),
        ("/models/a:b", "a_b"),
        ("/models/a\nb", "a_b"),
    ],
)
def test_served_names(text: str, name: str) -> None:
    assert served_model_name(parse_model_path(text)) == name


@given(st.text(st.characters(codec="utf-8", exclude_characters="\x00"), min_size=1))
def test_served_names_are_arguments_and_no_options(text: str) -> None:
    try:
        path = parse_model_path(f"/{text}")
    except UsageError:
        return
    name = served_model_name(path)
    assert name
    assert not name.startswith("-")
    assert not set(name) & {":", "/", "\n", "\x7f"}
