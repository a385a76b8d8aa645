"""Values of the Engine API to ours and back, and the engine's words as our errors."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moorage.catalog.bundle import bundle_root
from moorage.catalog.catalog import load_catalog
from moorage.errors import (
    ConflictError,
    FailedError,
    MoorageError,
    PlatformUnreachable,
    PortTaken,
    PreflightError,
    UsageError,
)
from moorage.launch.platforms.docker.container import (
    PullProgress,
    create_body,
    entry_of,
    gpu_support,
    life_of,
    lines_of,
    size_in_bytes,
)
from moorage.launch.platforms.docker.faults import pull_fault, registry_of, run_fault, unreachable
from tests.contract.platform_contract import make_submission

NOW_S = 1_000_000.0


@given(st.lists(st.text().map(lambda text: text.replace("\n", "").rstrip("\r"))), st.data())
def test_lines_are_whole_wherever_the_pieces_are_cut(lines: list[str], data: st.DataObject) -> None:
    raw = "".join(f"{line}\n" for line in lines).encode("utf-8", "surrogatepass")
    cuts = sorted(data.draw(st.lists(st.integers(0, len(raw)))))
    pieces = [raw[start:end] for start, end in zip([0, *cuts], [*cuts, len(raw)], strict=True)]
    assert list(lines_of(pieces)) == [
        line.encode("utf-8", "surrogatepass").decode("utf-8", "replace") for line in lines
    ]


def test_a_last_line_needs_no_newline_and_terminals_end_lines_with_two_characters() -> None:
    assert list(lines_of([b"a\r\nb\rc\r\n", b"d"])) == ["a", "b\rc", "d"]


@pytest.mark.parametrize(
    ("text", "size"), [("8g", 8 << 30), ("512m", 512 << 20), ("64KB", 65536), ("100b", 100), ("7", 7), ("1t", 1 << 40)]
)
def test_sizes_are_docker_s(text: str, size: int) -> None:
    assert size_in_bytes(text) == size


@pytest.mark.parametrize("text", ["", "g", "8 gigabytes", "-1g", "1.5g"])
def test_what_is_no_size_is_an_error(text: str) -> None:
    with pytest.raises(UsageError, match="not a size"):
        size_in_bytes(text)


@pytest.mark.parametrize(
    ("container", "state", "detail"),
    [
        (None, "exited", "no such container"),
        ({"State": "running", "Status": "Up 2 hours (unhealthy)"}, "alive", None),
        ({"State": "paused", "Status": "Up 2 hours (Paused)"}, "alive", "paused"),
        ({"State": "restarting", "Status": "Restarting (1)"}, "alive", "restarting"),
        ({"State": "exited", "Status": "Exited (0) 3 days ago"}, "exited", "exit code 0"),
        ({"State": "exited", "Status": "Exited (255) now"}, "exited", "exit code 255"),
        ({"State": "dead", "Status": "Dead"}, "exited", "dead"),
        ({"State": "removing", "Status": "Removal In Progress"}, "exited", "removing"),
        ({"State": "created", "Created": NOW_S - 1}, "alive", "created, not started"),
        ({"State": "created", "Created": NOW_S - 999}, "exited", "created, not started"),
    ],
)
def test_life_is_told_from_a_listing(container: dict[str, object] | None, state: str, detail: str | None) -> None:
    life = life_of(container, now_s=NOW_S)
    assert (life.state, life.detail, life.exists) == (state, detail, container is not None)


def test_an_entry_without_a_good_label_has_what_is_known() -> None:
    container = {
        "Names": ["/other/alias", "/the-name"],
        "Image": "repo/image:1",
        "Created": 0,
        "Labels": {"moorage.job_id": "label", "moorage.entry": "[broken"},
        "Ports": [
            {"PrivatePort": 9, "PublicPort": 1},
            {"PrivatePort": 8080},
            {"PrivatePort": 8080, "PublicPort": 8085},
        ],
    }
    assert entry_of(container, platform="local-docker", container_port=8080) == {
        "job_id": "the-name",
        "platform": "local-docker",
        "image": "repo/image:1",
        "started_at": "1970-01-01T00:00:00+00:00",
        "docker_url": "http://the-name:8080",
        "host_port": 8085,
        "host_url": "http://localhost:8085",
    }


def test_a_dead_container_keeps_the_port_of_its_label() -> None:
    label = {"job_id": "x", "network_arch": "vllm", "host_port": 8090, "host_url": "http://localhost:8090"}
    container = {"Names": ["/x"], "Labels": {"moorage.entry": json.dumps(label)}, "Ports": []}
    assert entry_of(container, platform="local-docker", container_port=8080)["host_port"] == 8090


def test_progress_adds_up_over_layers() -> None:
    progress = PullProgress()
    told = []
    for event in (
        {"status": "Pulling from x", "id": "1"},
        {"status": "Pulling fs layer", "id": "a", "progressDetail": {}},
        {"status": "Already exists", "id": "b", "progressDetail": {}},
        {"status": "Downloading", "id": "a", "progressDetail": {"current": 10, "total": 100}},
        {"status": "Downloading", "id": "c", "progressDetail": {"current": 5, "total": 50}},
        {"status": "Downloading", "id": "c", "progressDetail": {"current": 5, "total": 50}},
        {"status": "Download complete", "id": "a", "progressDetail": {}},
        {"status": "Extracting", "id": "a", "progressDetail": {"current": 1, "total": 100}},
        {"status": "Pull complete", "id": "c"},
        {"status": "Status: Downloaded newer image for x"},
    ):
        changed = progress.add(event)
        told.append((progress.done_bytes, progress.total_bytes) if changed else None)
    assert told == [None, None, None, (10, 100), (15, 150), None, (105, 150), None, (150, 150), None]


@pytest.mark.parametrize(
    ("info", "support"),
    [
        ({"Runtimes": {"runc": {}, "nvidia": {}}}, "runtime nvidia"),
        ({"Runtimes": {"runc": {}}, "DiscoveredDevices": [{"Source": "cdi", "ID": "nvidia.com/gpu=0"}]}, "CDI"),
        ({"Runtimes": {"runc": {}}, "DiscoveredDevices": [{"Source": "cdi", "ID": "amd.com/gpu=0"}]}, None),
        ({"Runtimes": None}, None),
        ({}, None),
    ],
)
def test_gpu_support_as_engines_name_it(info: dict[str, object], support: str | None) -> None:
    assert gpu_support(info) == support


@pytest.mark.parametrize(("gpus", "ids"), [(None, "all"), ("0,2", "0,2")])
def test_tegra_takes_a_runtime_and_variables_for_device_requests(gpus: str | None, ids: str) -> None:
    service = load_catalog(bundle_root({})).service
    submission = make_submission("local-docker", "image", "true", gpus=gpus, secret_env={"HF_TOKEN": "s"})
    body = create_body(
        submission, run=service.docker_run_reference, network="n", owner=7, gpu_host=service.optional_gpu_host_env
    )
    assert (body["HostConfig"]["Runtime"], "DeviceRequests" in body["HostConfig"]) == ("nvidia", False)
    assert {"NVIDIA_DRIVER_CAPABILITIES=all", f"NVIDIA_VISIBLE_DEVICES={ids}", "HF_TOKEN=s"} <= set(body["Env"])


@pytest.mark.parametrize(
    ("text", "error", "code"),
    [
        ("Bind for 127.0.0.1:18201 failed: port is already allocated", PortTaken, "port_taken"),
        ("listen tcp4 127.0.0.1:18202: bind: address already in use", PortTaken, "port_taken"),
        (
            "failed to bind host port for 127.0.0.1:8081:172.18.0.2:8080/tcp: address already in use",
            PortTaken,
            "port_taken",
        ),
        ("Ports are not available: exposing port TCP 127.0.0.1:8080 -> 0.0.0.0:0", PortTaken, "port_taken"),
        ('Conflict. The container name "/X" is already in use by container "ID".', ConflictError, "name_taken"),
        ('could not select device driver "" with capabilities: [[gpu]]', PreflightError, "no_gpu"),
        ("Unknown runtime specified nvidia", PreflightError, "no_gpu"),
        ("unknown or invalid runtime name: nvidia", PreflightError, "no_gpu"),
        ("nvidia-container-cli: initialization error: nvml error: driver not loaded", PreflightError, "no_gpu"),
        ("nvidia-container-cli: device error: 7: unknown device: unknown", PreflightError, "gpu_missing"),
        ("CDI device injection failed: unresolvable CDI devices nvidia.com/gpu=7", PreflightError, "gpu_missing"),
        ("failed to discover GPU vendor from CDI: no known GPU vendor found", PreflightError, "no_gpu"),
        (
            'invalid mount config for type "bind": bind source path does not exist: /x',
            PreflightError,
            "mount_missing",
        ),
        ("write /var/lib/docker/x: no space left on device", PreflightError, "disk_full"),
        ('exec: "/bin/sh": stat /bin/sh: no such file or directory: unknown', FailedError, "start_failed"),
        ("something never heard of", FailedError, "start_failed"),
    ],
)
def test_the_engine_s_words_become_errors(text: str, error: type[MoorageError], code: str) -> None:
    fault = run_fault(f"driver failed: {text}", what="it could not be started")
    assert (type(fault), fault.code) == (error, code)
    assert text in fault.message
    assert code not in ("no_gpu", "gpu_missing") or "--gpus none" in fault.hint


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("pull access denied for x, repository does not exist or may require 'docker login'", "pull_denied"),
        ("unauthorized: authentication required", "pull_denied"),
        ("no basic auth credentials", "pull_denied"),
        ("manifest for nvcr.io/nvidia/x:1 not found: manifest unknown", "image_missing"),
        ("no matching manifest for linux/arm64/v8 in the manifest list entries", "image_platform"),
        ('Get "https://nvcr.io/v2/": dial tcp: lookup nvcr.io: no such host', "pull_failed"),
        ("failed to register layer: no space left on device", "disk_full"),
    ],
)
def test_why_a_pull_failed(text: str, code: str) -> None:
    fault = pull_fault(text, image="nvcr.io/nvidia/x:1")
    assert fault.code == code
    assert text in fault.message
    if code == "pull_denied":
        assert "docker login nvcr.io" in fault.hint
        assert "NGC_KEY" in fault.hint
        assert fault.next == ["printenv NGC_KEY | docker login nvcr.io --username '$oauthtoken' --password-stdin"]


@pytest.mark.parametrize(
    ("image", "registry"),
    [
        ("nvcr.io/nvidia/x:1", "nvcr.io"),
        ("localhost/x", "localhost"),
        ("127.0.0.1:5000/x", "127.0.0.1:5000"),
        ("vllm/vllm-openai:v1", "docker.io"),
        ("busybox", "docker.io"),
    ],
)
def test_the_registry_of_an_image(image: str, registry: str) -> None:
    assert registry_of(image) == registry


def test_an_engine_that_is_not_allowed_names_the_group() -> None:
    wrapped = RuntimeError("Connection aborted.", PermissionError(13, "Permission denied"))
    fault = unreachable("unix:///x", wrapped)
    assert (type(fault), fault.code) == (PlatformUnreachable, "docker_permission")
    assert "docker group" in fault.hint
