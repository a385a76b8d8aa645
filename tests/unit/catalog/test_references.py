"""The reference data: what the TAO skill and the servers say, written down here a second time on purpose."""

from __future__ import annotations

import ast
import base64
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from moorage.catalog.bundle import read_yaml
from moorage.catalog.catalog import Catalog, load_catalog, load_templates
from moorage.catalog.image import resolve_image
from moorage.catalog.shapes import CodeTemplate, CodeTemplates
from moorage.errors import UsageError
from tests.unit.catalog.checkout_copy import ROOT, copy_checkout, put, swap

ARCHS = ["cosmos-predict2.5", "cosmos-rl", "sglang", "tao-dataservices", "vllm"]
TAO_ARCHS = ["cosmos-rl", "cosmos-predict2.5", "tao-dataservices"]


@pytest.fixture(scope="module")
def catalog() -> Catalog:
    return load_catalog(ROOT)


@pytest.fixture(scope="module")
def templates() -> CodeTemplates:
    return load_templates(ROOT)


def test_every_yaml_parser_reads_the_same_values() -> None:
    """libyaml takes more than the parser in Python, which other tools may use."""
    for path in [*ROOT.glob("references/*.yaml"), ROOT / "versions.yaml"]:
        assert yaml.load(path.read_text(), yaml.SafeLoader) == read_yaml(path)


def test_the_archs_are_known_and_sorted(catalog: Catalog) -> None:
    assert catalog.archs == ARCHS


@pytest.mark.parametrize(
    ("arch", "image"),
    [
        ("cosmos-rl", "nvcr.io/nvidia/tao/tao-toolkit:7.0.1-cosmos-rl"),
        ("cosmos-predict2.5", "nvcr.io/nvidia/tao/tao-toolkit:7.0.1-cosmos-predict"),
        ("tao-dataservices", "nvcr.io/nvidia/tao/tao-toolkit:7.0.1-data-services"),
        ("vllm", "vllm/vllm-openai:v0.32.0"),
        ("sglang", "lmsysorg/sglang:v0.5.23"),
    ],
)
def test_every_image_key_resolves(catalog: Catalog, arch: str, image: str) -> None:
    assert resolve_image(catalog, arch, {}).image == image


@pytest.mark.parametrize(
    ("arch", "expected"),
    [
        ("cosmos-rl", {"max_tokens": (1024, 1, None), "top_p": (0.8, None, 1), "temperature": (0.7, 0, 2)}),
        ("tao-dataservices", {"max_tokens": (1024, 1, None), "top_p": (0.8, None, 1), "temperature": (0.7, 0, None)}),
        (
            "cosmos-predict2.5",
            {
                "max_tokens": (77, 1, None),
                "guidance": (7, 0, 7),
                "num_steps": (35, 1, None),
                "seed": (0, None, None),
                "negative_prompt": (None, None, None),
            },
        ),
        (
            "vllm",
            {
                "max_tokens": (1024, 1, None),
                "top_p": (0.8, None, 1),
                "temperature": (0.7, 0, 2),
                "seed": (None, None, None),
            },
        ),
    ],
)
def test_sampling_fields_of_an_arch(catalog: Catalog, arch: str, expected: dict[str, Any]) -> None:
    fields = catalog.sampling_fields(arch)
    assert {name: (field.default, field.minimum, field.maximum) for name, field in fields.items()} == expected


def test_the_base_fields_are_those_of_the_tao_skill(catalog: Catalog) -> None:
    fields = catalog.request.chat_completions_request_body.fields
    assert {name: field.default for name, field in fields.items()} == {
        "max_tokens": 8192,
        "top_p": 0.8,
        "temperature": 0.7,
    }


def test_secrets_of_the_tao_skill_are_known_and_its_forbidden_variables_never_set(catalog: Catalog) -> None:
    secrets = catalog.service.secrets_handling
    assert secrets.secret_env_vars == [
        "HF_TOKEN",
        "WANDB_API_KEY",
        "CLEARML_API_ACCESS_KEY",
        "CLEARML_API_SECRET_KEY",
        "TAO_API_KEY",
        "TAO_USER_KEY",
    ]
    assert set(catalog.service.env_payload.forbidden) == {"TAO_LOGGING_SERVER_URL", "TAO_ADMIN_KEY"}
    assert "TAO_ADMIN_KEY" in catalog.secret_names
    assert not any(re.search("KEY|TOKEN|SECRET|PASSWORD", name) for name in secrets.allowed_env_vars)
    assert not any(re.search("KEY|TOKEN|SECRET|PASSWORD", name.upper()) for name in secrets.safe_to_ask)


def test_execution_backends_are_those_of_the_tao_skill(catalog: Catalog) -> None:
    backends = catalog.service.env_payload.execution_backend
    assert [backends[name] for name in ("local-docker", "local-process", "brev")] == ["local-docker"] * 3
    assert [backends[name] for name in ("lepton", "slurm", "kubernetes")] == ["lepton", "slurm", "local-k8s"]


def test_cloud_storage_is_refused_for_media_and_models_alike(catalog: Catalog) -> None:
    refused = {form.form.removesuffix("://") for form in catalog.service.model_path_protocols if not form.accepted}
    for arch in catalog.archs:
        assert set(catalog.rules(arch).refused_uri_schemes) == {"s3", "gs", "az", "cs", "aws"} <= refused


@pytest.mark.parametrize("arch", TAO_ARCHS)
def test_media_types_are_in_the_tables_of_the_tao_servers(catalog: Catalog, arch: str) -> None:
    """image/jpg and video/quicktime are not; a data URI with one of them is taken for a path."""
    known = {f"image/{name}" for name in ("jpeg", "png", "webp", "gif", "bmp", "tiff")}
    known |= {f"video/{name}" for name in ("mp4", "avi", "webm", "mkv", "x-matroska", "mov")}
    assert set(catalog.rules(arch).mime_types.values()) <= known


def test_reasons_of_both_readiness_shapes_are_known(catalog: Catalog) -> None:
    readiness = catalog.service.readiness
    statuses = catalog.request.container_response_shapes.statuses
    types = {name for row in statuses if row.status in (202, 503) for name in row.error_types}
    shown = {"server_initializing", "initialization_failed", "model_loading", "model_load_failed", "model_not_loaded"}
    assert types | shown == {*readiness.retry_reasons, *readiness.fatal_reasons}
    for row in statuses:
        for name in row.error_types:
            assert (name in readiness.retry_reasons) == (row.outcome == "retry")


def test_no_secret_and_no_callback_is_in_a_command(catalog: Catalog) -> None:
    for arch in catalog.archs:
        words = " ".join(catalog.command(arch).words)
        assert not any(name in words for name in [*catalog.secret_names, *catalog.service.env_payload.forbidden])
        assert "{extra_arguments}" in catalog.command(arch).words


def test_an_arch_is_found_whatever_its_case(catalog: Catalog) -> None:
    assert catalog.require_arch("Cosmos-RL") == "cosmos-rl"


def test_an_unknown_arch_names_the_valid_ones_and_the_nearest(catalog: Catalog) -> None:
    with pytest.raises(UsageError) as caught:
        catalog.require_arch("cosmos_rl")
    assert caught.value.code == "unknown_arch"
    assert all(arch in caught.value.message for arch in ARCHS)
    assert "cosmos-rl" in caught.value.hint
    with pytest.raises(UsageError) as caught:
        catalog.require_arch("zzzzzzzz")
    assert caught.value.hint


def test_an_arch_of_tao_can_do_without_its_sidecar_and_an_engine_cannot(tmp_path: Path) -> None:
    root = copy_checkout(tmp_path)
    (root / "references/tao-dataservices.config.json").unlink()
    assert resolve_image(load_catalog(root), "tao-dataservices", {}).key == "COSMOS_RL"
    (root / "references/vllm.config.json").unlink()
    with pytest.raises(UsageError) as caught:
        load_catalog(root)
    assert caught.value.data is not None
    assert [fault["file"] for fault in caught.value.data["faults"]] == ["references/vllm.config.json"]


def test_a_catalog_with_faults_is_not_loaded_and_tells_all_of_them(tmp_path: Path) -> None:
    root = copy_checkout(tmp_path)
    swap(root, "references/service.yaml", "  container_port: 8080", "  container_port: '8080'")
    swap(root, "versions.yaml", "    cosmos_rl:", "    cosmos_r1:")
    with pytest.raises(UsageError) as caught:
        load_catalog(root)
    error = caught.value
    assert (error.code, error.exit_status) == ("invalid_references", 2)
    assert error.data is not None
    pointers = {fault["pointer"] for fault in error.data["faults"]}
    assert pointers == {"/docker_run_reference/container_port", "/docker_image_defaults/mapping/COSMOS_RL"}
    assert error.next == [f"moor validate {root}"]


def test_templates_with_faults_are_not_loaded(tmp_path: Path) -> None:
    put(tmp_path, "references/code-templates.yaml", "stop: {}\n")
    with pytest.raises(UsageError) as caught:
        load_templates(tmp_path)
    assert caught.value.code == "invalid_references"
    assert "3 more" in caught.value.message


# ---- code examples: they run as they stand, against a server of this test -----------------------------------------


class Recorder(ThreadingHTTPServer):
    """Answers every POST with a chat completion and keeps path, content type and body."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.seen: list[tuple[str, str, bytes]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    server: Recorder

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.seen.append((self.path, self.headers["Content-Type"], body))
        self._answer({"choices": [{"message": {"role": "assistant", "content": "four it is"}}]})

    def do_GET(self) -> None:
        self._answer({"status": "ready"})

    def _answer(self, answer: dict[str, Any]) -> None:
        data = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: the test's output is its own."""


@pytest.fixture
def recorder() -> Iterator[Recorder]:
    server = Recorder()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def run_block(language: str, code: str, environ: dict[str, str], folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a block as a person would: from a file, with an environment that holds little but its inputs."""
    block = folder / ("block.py" if language == "python" else "block.sh")
    block.write_text(code)
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR") if name in os.environ}
    program = sys.executable if language == "python" else "bash"
    return subprocess.run(
        [program, str(block)],
        env={**kept, "PYTHONPATH": str(ROOT), **environ},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("name", ["python_text", "python_image", "curl_text", "curl_image"])
def test_a_code_example_runs_as_it_stands(catalog: Catalog, recorder: Recorder, tmp_path: Path, name: str) -> None:
    example = catalog.request.code_examples[name]
    picture = bytes(range(256)) * 4000  # larger than one argument of a command line may be
    (tmp_path / "picture.jpg").write_bytes(picture)
    environ = {"MOORAGE_URL": recorder.url + "/", "MOORAGE_IMAGE": str(tmp_path / "picture.jpg")}
    assert set(example.inputs) <= set(environ)
    given = {variable: environ[variable] for variable in example.inputs}
    (tmp_path / "temporary").mkdir()
    given["TMPDIR"] = str(tmp_path / "temporary")
    done = run_block(example.language, example.code, given, tmp_path)
    assert done.returncode == 0, done.stderr
    assert "four it is" in done.stdout
    [(path, content_type, body)] = recorder.seen
    assert (path, content_type) == ("/v1/chat/completions", "application/json")
    content = json.loads(body)["messages"][0]["content"]
    assert content[-1]["type"] == "text"
    if name.endswith("image"):
        url = content[0]["image_url"]["url"]
        assert base64.b64decode(url.removeprefix("data:image/jpeg;base64,"), validate=True) == picture
    assert list((tmp_path / "temporary").iterdir()) == []


def test_every_example_is_run_above(catalog: Catalog) -> None:
    assert set(catalog.request.code_examples) == {"python_text", "python_image", "curl_text", "curl_image"}


# ---- code templates ----------------------------------------------------------------------------------------------


def all_templates(templates: CodeTemplates) -> dict[str, CodeTemplate]:
    groups = {
        "job_payload_builder": templates.job_payload_builder,
        "registry_write": templates.registry_write,
        "stop": templates.stop,
        "request": templates.request,
    }
    named = {f"{group}.{name}": block for group, blocks in groups.items() for name, block in blocks.items()}
    return {**named, "readiness_check": templates.readiness_check}


def variables_read(code: str) -> dict[str, bool]:
    """Variable that the code reads by name → whether it must be set."""
    found: dict[str, bool] = {}
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Subscript) and ast.unparse(node.value) == "os.environ":
            found[ast.literal_eval(node.slice)] = True
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "os.environ.get":
            found.setdefault(ast.literal_eval(node.args[0]), False)
    return found


def test_a_template_lists_every_variable_that_it_reads(templates: CodeTemplates) -> None:
    for name, block in all_templates(templates).items():
        needed = {variable: not meaning.startswith("optional") for variable, meaning in block.inputs.items()}
        assert variables_read(block.code) == needed, name


@pytest.mark.parametrize("arch", ARCHS)
def test_a_payload_builder_prints_what_to_run(templates: CodeTemplates, tmp_path: Path, arch: str) -> None:
    block = templates.job_payload_builder[arch]
    environ = {"MOORAGE_MODEL_PATH": "/models/it's mine", "MOORAGE_STATE_FILE": str(tmp_path / "state.json")}
    done = run_block("python", block.code, environ, tmp_path)
    assert done.returncode == 0, done.stderr
    plan = json.loads(done.stdout)
    assert plan["network_arch"] == arch
    assert plan["command"].startswith("umask 0 && ")
    assert (plan["job_id"] in plan["command"]) == (arch in ("cosmos-rl", "tao-dataservices"))
    assert not (tmp_path / "state.json").exists()


def test_the_templates_record_read_and_forget_a_service(
    templates: CodeTemplates, recorder: Recorder, tmp_path: Path
) -> None:
    name, arch, state = "local_docker", "tao-dataservices", tmp_path / "state.json"
    job_id, port = "0f8fad5b-d9cb-469f-a165-70867728950e", str(recorder.server_address[1])
    base = {"MOORAGE_STATE_FILE": str(state)}
    full = base | {"MOORAGE_JOB_ID": job_id, "MOORAGE_NETWORK_ARCH": arch.upper(), "MOORAGE_HOST_PORT": port}
    done = run_block("python", templates.registry_write[name].code, full, tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Inference service started." in done.stdout
    entry = json.loads(state.read_text())[job_id]
    assert (entry["network_arch"], entry["host_port"]) == (arch, int(port))
    assert set(entry) <= set(load_catalog(ROOT).service.service_registry.fields)

    for block, said in (
        (templates.readiness_check, f"{job_id} is ready"),
        (templates.request["registry_read"], f"Sending to job_id={job_id} arch={arch}"),
        (templates.stop["registry_read"], f"Stopping job_id={job_id}"),
    ):
        done = run_block("python", block.code, base, tmp_path)
        assert done.returncode == 0, done.stderr
        assert said in done.stdout
    done = run_block("python", templates.stop["registry_cleanup"].code, base | {"MOORAGE_JOB_ID": job_id}, tmp_path)
    assert done.stdout.strip() == "latest: None", done.stderr
    assert json.loads(state.read_text()) == {}
