"""The configuration file of the serving API: what it may say, and what it is told when it says something else."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moorage.cli.parser import positive_duration_s
from moorage.cli.platform_flags import FLAGS
from moorage.errors import UsageError
from moorage.launch.platforms import PLATFORMS
from moorage.launch.platforms.options import OPTIONS
from moorage.serving.config_file import KEYS, read_config
from moorage.serving.settings import Config, Settings

WHOLE = """
auth: required
serving:
  llm:
    accelerator_type: H20
    accelerator: cpu
    engine_kwargs: {max_model_len: 4096}
  limits: {replicas: 8, gpus_per_replica: 4}
  deadline_s: 60
  attempts: 2
  drain_s: 0.5
  keep_deleted_s: 3600
  ray: {address: "http://127.0.0.1:8265", num_cpus: 4, proxy_port: 8001}
  launch: {platform: local-docker}
  quotas: {models: 3, gpus: 8, requests_per_minute: 60, tokens_per_minute: null, concurrent_requests: 4}
"""


def read(folder: Path, text: str | bytes) -> Config:
    file = folder / "config.yaml"
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    return read_config(file)


def test_everything_can_be_said(tmp_path: Path) -> None:
    config = read(tmp_path, WHOLE)
    assert (config.auth, config.llm.accelerator_type, config.llm.accelerator) == ("required", "H20", "cpu")
    assert (config.llm.engine_kwargs, config.limits.replicas, config.limits.gpus_per_replica) == (
        {"max_model_len": 4096},
        8,
        4,
    )
    assert (config.deadline_s, config.attempts, config.drain_s, config.keep_deleted_s) == (60, 2, 0.5, 3600)
    assert read(tmp_path, "serving: {keep_deleted_s: null}").keep_deleted_s is None
    assert Config().keep_deleted_s == 30 * 24 * 3600
    assert (config.ray.address, config.ray.num_cpus, config.ray.proxy_port) == ("http://127.0.0.1:8265", 4, 8001)
    assert config.launch.platform == "local-docker"
    assert (config.quotas.models, config.quotas.gpus, config.quotas.tokens_per_minute) == (3, 8, None)


@pytest.mark.parametrize("text", ["", "# nothing\n", "serving: {}\n", "serving: {limits: {}}\n", "null\n"])
def test_nothing_is_the_defaults(tmp_path: Path, text: str) -> None:
    assert read(tmp_path, text) == Config()


@pytest.mark.parametrize(
    ("text", "pointer", "line"),
    [
        ("auths: none", "/auths", 1),
        ("serving:\n  limit: {}\n", "/serving/limit", 2),
        ("serving:\n  limits:\n    replica: 1\n", "/serving/limits/replica", 3),
        ("serving: 7", "/serving", 1),
        ("- auth", "", 1),
        ("auth: maybe", "/auth", 1),
        ("auth: none\nauth: none\n", "/auth", 2),
        ("serving: {limits: {replicas: 0}}", "/serving/limits/replicas", 1),
        ("serving: {keep_deleted_s: 0}", "/serving/keep_deleted_s", 1),
        ("serving: {limits: {replicas: true}}", "/serving/limits/replicas", 1),
        ("serving: {limits: {replicas: '2'}}", "/serving/limits/replicas", 1),
        ("serving: {llm: {accelerator: tpu}}", "/serving/llm/accelerator", 1),
        ("serving: {llm: {accelerator_type: ''}}", "/serving/llm/accelerator_type", 1),
        ("serving: {llm: {engine_kwargs: [1]}}", "/serving/llm/engine_kwargs", 1),
        ("serving: {llm: {engine_kwargs: {1: 2}}}", "/serving/llm/engine_kwargs", 1),
        ("serving: {deadline_s: .nan}", "/serving/deadline_s", 1),
        ("serving: {deadline_s: .inf}", "/serving/deadline_s", 1),
        ("serving: {drain_s: -1}", "/serving/drain_s", 1),
        ("serving: {ray: {address: 'localhost:8265'}}", "/serving/ray/address", 1),
        ("serving: {ray: {address: 'http://a:99999'}}", "/serving/ray/address", 1),
        ("serving: {quotas: {models: -1}}", "/serving/quotas/models", 1),
        ("serving: {<<: {limits: {}}}", "/serving/<<", 1),
        ("? [a]\n: b\n", "/?", 1),
    ],
)
def test_a_fault_is_named_with_its_line(tmp_path: Path, text: str, pointer: str, line: int) -> None:
    with pytest.raises(UsageError) as caught:
        read(tmp_path, text)
    assert caught.value.code == "bad_config"
    assert caught.value.data is not None
    [fault] = caught.value.data["faults"]
    assert (fault["pointer"], fault["line"]) == (pointer, line)
    assert f"line {line}: " in caught.value.message


def test_every_fault_is_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        read(tmp_path, "auth: x\nserving: {attempts: 0, bogus: 1}\n")
    assert caught.value.data is not None
    assert [one["pointer"] for one in caught.value.data["faults"]] == ["/auth", "/serving/attempts", "/serving/bogus"]


@pytest.mark.parametrize(
    ("launch", "said"),
    [
        ("{options: {namespace: a}}", "namespace is no option of local-process: it has no options"),
        ("{platform: kubernetes, options: {name_space: a}}", "options are access, as_job, context, image_pull_key_env"),
        ("{platform: kubernetes, options: {partition: a}}", "partition is no option of kubernetes"),
        ("{platform: kubernetes, options: {as_job: 'yes'}}", "as_job 'yes' is not true or false"),
        ("{platform: kubernetes, options: {namespace: 7}}", "namespace 7 is not text"),
        ("{platform: slurm, options: {cpus: '8'}}", "cpus '8' is not a whole number"),
        ("{platform: lepton, options: {scale_to_zero: 0}}", "scale_to_zero 0 is not a number of seconds"),
        ("{options: {a: 1}, platform: slurm}", "a is no option of slurm"),
        ("{platform: slurm, options: {? [a] : 1}}", "serving.launch.options"),
    ],
)
def test_options_are_those_of_the_platform(tmp_path: Path, launch: str, said: str) -> None:
    with pytest.raises(UsageError) as caught:
        read(tmp_path, f"serving:\n  launch: {launch}")
    assert (caught.value.code, caught.value.exit_status) == ("bad_config", 2)
    assert said in caught.value.message
    assert "line 2: " in caught.value.message


def test_good_options_are_taken(tmp_path: Path) -> None:
    text = "serving: {launch: {platform: lepton, options: {token_env: T, replicas: 2, scale_to_zero: 60.5}}}"
    assert read(tmp_path, text).launch.options == {"token_env": "T", "replicas": 2, "scale_to_zero": 60.5}
    assert read(tmp_path, "serving: {launch: {platform: moon, options: {a: 1}}}").launch.platform == "moon"


def test_the_options_are_the_flags_of_a_start() -> None:
    kinds = {positive_duration_s: float}
    flags = [(one.flag.removeprefix("--").replace("-", "_"), one) for one in FLAGS]
    assert {
        platform: {name: kinds.get(one.kind, one.kind) for name, one in flags if platform in one.platforms}
        for platform in PLATFORMS
    } == OPTIONS


@pytest.mark.parametrize(
    "content",
    [b"a: [", b"\xff\xfe\x00", b"a: b\n---\nc: d\n", b"[" * 300, b"#" * ((1 << 20) + 1), b"a: *b\n", b"auth: !!x y"],
)
def test_what_is_no_yaml_is_told_so(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(UsageError) as caught:
        read(tmp_path, content)
    assert caught.value.code == "bad_config"


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"none\.yaml"):
        read_config(tmp_path / "none.yaml")
    with pytest.raises(UsageError):
        read_config(tmp_path)


@given(st.binary(max_size=200))
def test_any_file_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    try:
        read(tmp_path_factory.mktemp("config"), content)
    except UsageError as fault:
        assert fault.code == "bad_config"


def test_every_key_has_words() -> None:
    assert all(wanted.words for wanted in KEYS.values())


def test_an_address_of_ipv6_stands_in_brackets() -> None:
    assert Settings(backend="memory", db="", public_host="::1").openai_base_url == "http://[::1]:8000/v1"
