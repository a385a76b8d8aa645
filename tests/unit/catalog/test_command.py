from __future__ import annotations

import ast
import json
import os
import shlex
import stat
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moorage.catalog.catalog import Catalog, load_catalog
from moorage.catalog.command import container_env, inner_command, secret_env_names
from moorage.catalog.model_path import parse_model_path
from moorage.errors import UsageError

ROOT = Path(__file__).parents[3]
JOB = "6f1b0f3c-5f0e-4c0a-9a63-2c1f0f6f8c11"
PROGRAMS = ("cosmos-rl-inference-microservice", "cosmos_predict", "python", "python3")
NASTY = [
    "/a b/c",
    '/it\'s "q"',
    "/$HOME/`id`/$(id)",
    "/line\nbreak\t",
    "/back\\slash\\u0041",
    "/ключ/模型/🚀",
    "/{port}/{job}",
    "/!#~*?[x]&;|<>",
    "/\u2028\ufeff\x7f",
]

Run = Callable[..., list[str]]


@pytest.fixture(scope="module")
def catalog() -> Catalog:
    return load_catalog(ROOT)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Run a command line as the platforms do, with programs that print their arguments; the arguments."""
    folder = tmp_path_factory.mktemp("programs")
    for name in PROGRAMS:
        program = folder / name
        program.write_text('#!/bin/sh\nprintf "%s\\0" "${0##*/}" "$@"\n')
        program.chmod(program.stat().st_mode | stat.S_IXUSR)

    def execute(command: str, **environ: str) -> list[str]:
        arguments = ["/bin/sh", "-c", command]
        done = subprocess.run(arguments, env={"PATH": str(folder), **environ}, capture_output=True, check=True)
        assert done.stderr == b""
        return os.fsdecode(done.stdout).split("\0")[:-1]

    return execute


def command(catalog: Catalog, arch: str, path: str = "/models/m", **more: Any) -> str:
    platform = more.pop("platform", "local-docker")
    num_gpus = more.pop("num_gpus", 1)
    model_path = parse_model_path(path)
    return inner_command(catalog, arch, job_id=JOB, model_path=model_path, platform=platform, num_gpus=num_gpus, **more)


def read_both_ways(text: str) -> Any:
    """The value, which JSON and Python literals must agree on."""
    value = json.loads(text)
    assert ast.literal_eval(text) == value
    return value


def payload(arch: str, model_path: str) -> dict[str, Any]:
    return {"job_id": JOB, "specs": {"model_path": model_path}, "neural_network_name": arch}


ENV = {"TAO_EXECUTION_BACKEND": "local-docker", "TAO_API_JOB_ID": JOB, "CLOUD_BASED": "False"}


@pytest.mark.parametrize("path", ["/models/m", "hf_model://nvidia/Cosmos-Reason1-7B", *NASTY])
@pytest.mark.parametrize(
    ("arch", "program"),
    [
        ("cosmos-rl", ["cosmos-rl-inference-microservice"]),
        (
            "tao-dataservices",
            ["python", "-m", "nvidia_tao_core.microservices.handlers.huggingface_inference_microservice_server"],
        ),
    ],
)
def test_job_servers_get_the_payload_and_the_environment(
    catalog: Catalog, run: Run, arch: str, program: list[str], path: str
) -> None:
    got = run(command(catalog, arch, path))
    rest = got[len(program) :]
    assert got[: len(program)] == program
    assert [rest[0], rest[2], *rest[4:]] == ["--job", "--docker_env_vars", "--port", "8080"]
    assert read_both_ways(rest[1]) == payload(arch, path)
    assert read_both_ways(rest[3]) == ENV
    assert '": ' not in rest[1] + rest[3], "not compact"


@pytest.mark.parametrize("path", ["/models/m", *NASTY])
def test_predict_takes_a_checkpoint_by_its_path(catalog: Catalog, run: Run, path: str) -> None:
    got = run(command(catalog, "cosmos-predict2.5", path))
    assert got[:5] == ["cosmos_predict", "inference_microservice", "start", "--checkpoint-path", path]
    assert got[5] == "--output-dir"
    assert got[7:] == ["--port", "8080"]


def test_predict_takes_a_hugging_face_model_by_its_key(catalog: Catalog, run: Run) -> None:
    got = run(command(catalog, "cosmos-predict2.5", "hf_model://nvidia/Cosmos-Predict2.5-2B", model_key="base-2b"))
    assert got[3:5] == ["--model", "base-2b"]
    assert "--checkpoint-path" not in got


@pytest.mark.parametrize(
    ("arch", "model_flag", "gpus_flag"),
    [("vllm", "--model", "--tensor-parallel-size"), ("sglang", "--model-path", "--tp-size")],
)
@pytest.mark.parametrize(
    ("path", "model", "name"),
    [("hf_model://Qwen/Qwen3-0.6B", "Qwen/Qwen3-0.6B", "Qwen/Qwen3-0.6B"), *[(p, p, None) for p in NASTY]],
)
def test_engines_get_the_bare_name_or_the_path(
    catalog: Catalog, run: Run, arch: str, model_flag: str, gpus_flag: str, path: str, model: str, name: str | None
) -> None:
    got = run(command(catalog, arch, path, num_gpus=4))
    assert got[got.index(model_flag) + 1] == model
    assert got[got.index("--host") + 1] == "0.0.0.0"
    assert got[got.index("--port") + 1] == "8080"
    assert got[got.index(gpus_flag) + 1] == "4"
    if name is not None:
        assert got[got.index("--served-model-name") + 1] == name


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_no_path_and_no_argument_breaks_out_of_its_word(catalog: Catalog, run: Run, data: st.DataObject) -> None:
    words = st.text(st.characters(codec="utf-8", exclude_characters="\x00") | st.sampled_from("'\"$`\\\n {}"))
    arch = data.draw(st.sampled_from(catalog.archs))
    path = "/m" + data.draw(words)
    extra = data.draw(st.lists(words.map(lambda word: f"v{word}"), max_size=4))
    try:
        parse_model_path(path)
    except UsageError:
        return
    got = run(command(catalog, arch, path, extra_arguments=extra))
    plain = run(command(catalog, arch, "/m"))
    assert len(got) == len(plain) + len(extra)
    assert got[len(got) - len(extra) :] == extra
    if "--job" in got:
        assert read_both_ways(got[got.index("--job") + 1])["specs"]["model_path"] == path
    else:
        assert path in got


@pytest.mark.parametrize("arch", ["cosmos-rl", "cosmos-predict2.5", "tao-dataservices", "vllm", "sglang"])
def test_bytes_are_the_same_on_all_platforms(catalog: Catalog, arch: str) -> None:
    backends = catalog.service.env_payload.execution_backend
    made = {name: command(catalog, arch, "/m é", platform=name) for name in backends}
    masked = {
        line.replace(f'"TAO_EXECUTION_BACKEND":"{backends[name]}"', '"TAO_EXECUTION_BACKEND":"*"')
        for name, line in made.items()
    }
    assert len(masked) == 1
    assert masked.pop().startswith("umask 0 && ")
    takes_env = "--docker_env_vars" in made["slurm"]
    assert len(set(made.values())) == (len(set(backends.values())) if takes_env else 1)


def test_platforms_set_the_backend_as_tao_names_them(catalog: Catalog) -> None:
    seen = {name: container_env(catalog, "cosmos-rl", job_id=JOB, platform=name) for name in (
        "local-process", "local-docker", "brev", "lepton", "slurm", "kubernetes"
    )}  # fmt: skip
    assert {name: env["TAO_EXECUTION_BACKEND"] for name, env in seen.items()} == {
        "local-process": "local-docker",
        "local-docker": "local-docker",
        "brev": "local-docker",
        "lepton": "lepton",
        "slurm": "slurm",
        "kubernetes": "local-k8s",
    }
    assert seen["slurm"] == ENV | {"TAO_EXECUTION_BACKEND": "slurm"}
    assert container_env(catalog, "vllm", job_id=JOB, platform="slurm") == {}


def test_callback_variables_are_never_set(catalog: Catalog) -> None:
    forbidden = set(catalog.service.env_payload.forbidden)
    assert {"TAO_LOGGING_SERVER_URL", "TAO_ADMIN_KEY"} <= forbidden
    for arch in catalog.archs:
        for platform in catalog.service.env_payload.execution_backend:
            assert not forbidden & set(container_env(catalog, arch, job_id=JOB, platform=platform))
            assert not any(name in command(catalog, arch, platform=platform) for name in forbidden)


def test_an_unknown_platform_is_refused_with_the_known_ones(catalog: Catalog) -> None:
    with pytest.raises(UsageError) as caught:
        container_env(catalog, "vllm", job_id=JOB, platform="docker")
    assert "local-docker" in caught.value.hint


def test_a_platform_moves_the_port_by_environment(catalog: Catalog, run: Run) -> None:
    line = command(catalog, "vllm", num_gpus=2)
    assert '"${MOORAGE_PORT:-8080}"' in line
    got = run(line, MOORAGE_PORT="8123", MOORAGE_HOST="127.0.0.1 x", MOORAGE_TENSOR_PARALLEL="1")
    assert got[got.index("--port") + 1] == "8123"
    assert got[got.index("--host") + 1] == "127.0.0.1 x"
    assert got[got.index("--tensor-parallel-size") + 1] == "1"
    assert run(command(catalog, "cosmos-rl"), MOORAGE_PORT="9")[-1] == "9"


def test_plain_words_are_readable(catalog: Catalog) -> None:
    assert command(catalog, "vllm", "/models/nano") == (
        "umask 0 && python3 -m vllm.entrypoints.openai.api_server --model /models/nano --served-model-name nano"
        ' --host "${MOORAGE_HOST:-0.0.0.0}" --port "${MOORAGE_PORT:-8080}"'
        ' --tensor-parallel-size "${MOORAGE_TENSOR_PARALLEL:-1}"'
    )


def test_the_secret_is_named_and_never_in_the_command(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_0123456789")
    hub, local = parse_model_path("hf_model://a/b"), parse_model_path("/models/m")
    for arch in catalog.archs:
        assert secret_env_names(catalog, arch, hub, {"HF_TOKEN": "hf_0123456789"}) == ["HF_TOKEN"]
        assert secret_env_names(catalog, arch, local, {"HF_TOKEN": "hf_0123456789"}) == []
        assert secret_env_names(catalog, arch, hub, {"HF_TOKEN": ""}) == []
        assert secret_env_names(catalog, arch, hub, {"WANDB_API_KEY": "0123456789"}) == []
        key = "base-2b" if arch == "cosmos-predict2.5" else None
        assert "hf_0123456789" not in command(catalog, arch, "hf_model://a/b", model_key=key)
    assert "HF_TOKEN" in catalog.secret_names


def test_predict_asks_for_the_model_key(catalog: Catalog) -> None:
    for key in (None, ""):
        with pytest.raises(UsageError) as caught:
            command(catalog, "cosmos-predict2.5", "hf_model://nvidia/Cosmos-Predict2.5-2B", model_key=key)
        assert caught.value.code == "model_key_required"
        assert "--model-key base-2b" in caught.value.hint
        assert shlex.split(caught.value.next[0])[:2] == ["moor", "start"]


@pytest.mark.parametrize("key", ["auto-multiview", "2B/post-trained", "robot/action-cond_v1.2"])
def test_registered_keys_pass(catalog: Catalog, run: Run, key: str) -> None:
    assert key in run(command(catalog, "cosmos-predict2.5", "hf_model://a/b", model_key=key))


@pytest.mark.parametrize("key", ["--port", "-x", "a b", "a;b", "$x", "a/../b", "/a", "a/", "a\n", "é", "x" * 300])
def test_other_keys_are_refused(catalog: Catalog, key: str) -> None:
    with pytest.raises(UsageError) as caught:
        command(catalog, "cosmos-predict2.5", "hf_model://a/b", model_key=key)
    assert caught.value.code == "bad_model_key"


@pytest.mark.parametrize(
    ("arch", "path"), [("vllm", "hf_model://a/b"), ("cosmos-rl", "/m"), ("cosmos-predict2.5", "/m")]
)
def test_a_key_that_nothing_reads_is_refused(catalog: Catalog, arch: str, path: str) -> None:
    with pytest.raises(UsageError) as caught:
        command(catalog, arch, path, model_key="base-2b")
    assert caught.value.code == "model_key_unused"


@pytest.mark.parametrize(
    ("arch", "argument"),
    [
        ("vllm", "--port"),
        ("vllm", "--port=9"),
        ("vllm", "--por"),
        ("vllm", "--served_model_name"),
        ("vllm", "--served_model_name=x"),
        ("vllm", "-tp"),
        ("vllm", "--api-key=x"),
        ("sglang", "--tp"),
        ("sglang", "--host"),
        ("cosmos-rl", "--docker-env-vars"),
        ("cosmos-rl", "--job={}"),
        ("cosmos-predict2.5", "--checkpoint_path"),
    ],
)
def test_reserved_flags_are_refused_in_every_spelling(catalog: Catalog, arch: str, argument: str) -> None:
    with pytest.raises(UsageError) as caught:
        command(catalog, arch, extra_arguments=["--ok", argument])
    assert caught.value.code == "reserved_argument"
    assert argument.partition("=")[0] in caught.value.message
    assert caught.value.hint


def test_the_value_of_a_reserved_flag_is_not_repeated(catalog: Catalog) -> None:
    with pytest.raises(UsageError) as caught:
        command(catalog, "vllm", extra_arguments=["--api-key=hunter2hunter2"])
    assert "hunter2" not in caught.value.message + caught.value.hint


def test_every_documented_argument_passes(catalog: Catalog, run: Run) -> None:
    for arch in catalog.archs:
        for flag in catalog.command(arch).optional_arguments:
            assert run(command(catalog, arch, extra_arguments=[flag]))[-1] == flag


@pytest.mark.parametrize("argument", ["a\x00b", "\udcff"])
def test_arguments_that_no_command_line_holds_are_refused(catalog: Catalog, argument: str) -> None:
    with pytest.raises(UsageError) as caught:
        command(catalog, "vllm", extra_arguments=[argument])
    assert caught.value.code == "bad_extra_argument"


def test_an_arch_without_room_for_arguments_refuses_them(catalog: Catalog) -> None:
    closed = with_command(catalog, "vllm", words=["python3", "--model", "{model}"])
    assert command(closed, "vllm") == "umask 0 && python3 --model /models/m"
    with pytest.raises(UsageError) as caught:
        command(closed, "vllm", extra_arguments=["--x"])
    assert caught.value.code == "extra_arguments_refused"


def test_expressions_and_literals_share_a_word(catalog: Catalog, run: Run) -> None:
    words = ["python3", "--at={host}:{port}/a b", "x{tensor_parallel}", "", "--m={model}"]
    got = run(command(with_command(catalog, "vllm", words=words), "vllm", "/a $b", num_gpus=3))
    assert got == ["python3", "--at=0.0.0.0:8080/a b", "x3", "", "--m=/a $b"]


def with_command(catalog: Catalog, arch: str, **changes: Any) -> Catalog:
    commands = dict(catalog.service.container_commands)
    commands[arch] = commands[arch].model_copy(update=changes)
    return replace(catalog, service=catalog.service.model_copy(update={"container_commands": commands}))
