"""The Docker engine client against real engines: images, networks, GPUs, and answers that get lost."""

from __future__ import annotations

import json
import multiprocessing
import shutil
import sys
import uuid
from multiprocessing.synchronize import Barrier as BarrierType
from pathlib import Path

import pytest

from moorage.errors import FailedError, PlatformUnreachable, PreflightError
from moorage.launch.platforms.docker import engine as client
from moorage.launch.platforms.local_docker import LocalDocker
from tests.contract.engine_proxies import faulty_proxy, tls_proxy
from tests.contract.platform_contract import SERVE, eventually, free_port, ignore_progress, make_submission
from tests.contract.small_registry import small_registry
from tests.real.parts.absence import require_real
from tests.real.parts.container_image import TaoImage
from tests.real.parts.docker_engine import DockerEngine

pytestmark = pytest.mark.docker

MIB = 1 << 20
RACERS = 6


@pytest.fixture
def engine(docker_engine: DockerEngine) -> client.DockerEngine:
    return client.DockerEngine({"DOCKER_HOST": docker_engine.host})


@pytest.fixture
def repository() -> str:
    return f"moorage/test-{uuid.uuid4().hex}"


class Progress:
    """A report that is kept."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, str, dict[str, float]]] = []

    def __call__(self, phase: str, message: str, **numbers: float) -> None:
        self.calls.append((phase, message, numbers))


def test_a_missing_image_is_pulled_with_progress_and_then_kept(
    engine: client.DockerEngine, docker_engine: DockerEngine, repository: str
) -> None:
    with small_registry(layer_bytes=[3 * MIB, 2 * MIB]) as registry:
        image = f"{registry}/{repository}:1"
        progress, again = Progress(), Progress()
        engine.ensure_image(image, pull="missing", report=progress)
        engine.ensure_image(image, pull="missing", report=again)
        try:
            assert engine.has_image(image)
            assert {(phase, message) for phase, message, _ in progress.calls} == {("pull", image)}
            sums = [(int(numbers["done_bytes"]), int(numbers["total_bytes"])) for _, _, numbers in progress.calls[1:]]
            assert all(done <= total for done, total in sums)
            assert sums[-1][0] == sums[-1][1] >= 5 * MIB
            assert again.calls == []
        finally:
            docker_engine.docker("rmi", image, check=False)
    with pytest.raises(PreflightError) as caught:
        engine.ensure_image(image, pull="always", report=ignore_progress)
    assert caught.value.code == "pull_failed"


def test_never_pull_names_the_command_that_pulls(engine: client.DockerEngine) -> None:
    with pytest.raises(PreflightError) as caught:
        engine.ensure_image("nvcr.io/nvidia/none:1", pull="never", report=ignore_progress)
    assert caught.value.code == "image_missing"
    assert caught.value.next == ["docker pull nvcr.io/nvidia/none:1"]
    assert "--pull missing" in caught.value.hint


def test_a_locked_registry_names_the_login(engine: client.DockerEngine, repository: str) -> None:
    with small_registry(layer_bytes=[], locked=True) as registry, pytest.raises(PreflightError) as caught:
        engine.ensure_image(f"{registry}/{repository}:1", pull="missing", report=ignore_progress)
    assert caught.value.code == "pull_denied"
    assert caught.value.next == [f"docker login {registry}"]


def test_an_image_that_the_registry_lacks(engine: client.DockerEngine, repository: str) -> None:
    with small_registry(layer_bytes=[]) as registry, pytest.raises(PreflightError) as caught:
        engine.ensure_image(f"{registry}/{repository}:no-such-tag", pull="missing", report=ignore_progress)
    assert caught.value.code == "image_missing"


@pytest.mark.parametrize("registry", ["registry.invalid", "127.0.0.1:{closed}"])
def test_a_registry_that_cannot_be_reached(engine: client.DockerEngine, repository: str, registry: str) -> None:
    image = f"{registry.format(closed=free_port())}/{repository}:1"
    with pytest.raises(PreflightError) as caught:
        engine.ensure_image(image, pull="missing", report=ignore_progress)
    assert caught.value.code == "pull_failed"
    assert image in caught.value.message


def test_an_image_that_is_gone_at_the_start(docker_engine: DockerEngine) -> None:
    submission = make_submission("local-docker", f"moorage/none:{uuid.uuid4().hex}", SERVE)
    with pytest.raises(PreflightError) as caught:
        LocalDocker({"DOCKER_HOST": docker_engine.host}).submit(submission)
    assert caught.value.code == "image_missing"


def test_a_container_that_cannot_start_is_told_in_the_engine_s_words_and_removed(
    engine: client.DockerEngine, docker_engine: DockerEngine, tao_image: TaoImage, tmp_path: Path
) -> None:
    mounts = (f"{tmp_path}:/etc/passwd",)  # a folder over a file
    submission = make_submission("local-docker", tao_image.names["cosmos-rl"], SERVE, mounts=mounts)
    with pytest.raises(FailedError, match="not a directory") as caught:
        LocalDocker({"DOCKER_HOST": docker_engine.host}).submit(submission)
    assert caught.value.code == "start_failed"
    assert engine.inspect(submission.job_id) is None


def test_a_network_is_made_once_by_many_processes(docker_engine: DockerEngine) -> None:
    network = f"moorage-{uuid.uuid4()}"
    processes = multiprocessing.get_context("spawn")
    barrier, found = processes.Barrier(RACERS), processes.SimpleQueue()
    racers = [
        processes.Process(target=_ensure_network, args=[docker_engine.host, network, barrier, found])
        for _ in range(RACERS)
    ]
    try:
        for racer in racers:
            racer.start()
        ids = {found.get() for _ in racers}
        for racer in racers:
            racer.join()
        assert list(ids) == listed_networks(docker_engine, network)
    finally:
        docker_engine.docker("network", "rm", *listed_networks(docker_engine, network), check=False)


def listed_networks(engine: DockerEngine, name: str) -> list[str]:
    """Ids of all networks of that name: engines can have several."""
    return engine.docker("network", "ls", "--no-trunc", "--quiet", "--filter", f"name=^{name}$").stdout.split()


def _ensure_network(host: str, network: str, barrier: BarrierType, found: multiprocessing.SimpleQueue[str]) -> None:
    engine = client.DockerEngine({"DOCKER_HOST": host})
    engine.version()
    barrier.wait()
    found.put(engine.ensure_network(network))


@pytest.fixture
def engine_socket(docker_engine: DockerEngine) -> Path:
    if not docker_engine.host.startswith("unix://"):
        require_real(f"a Docker engine on a socket of this machine: DOCKER_HOST is {docker_engine.host}")
    return Path(docker_engine.host.removeprefix("unix://"))


@pytest.mark.parametrize("lost", [b"/containers/create", b"/start "])
def test_an_answer_that_is_lost_leaves_no_container(
    engine: client.DockerEngine, engine_socket: Path, tao_image: TaoImage, tmp_path: Path, lost: bytes
) -> None:
    submission = make_submission("local-docker", tao_image.names["cosmos-rl"], SERVE)
    with faulty_proxy(engine_socket, tmp_path, at=lost) as url, pytest.raises(PlatformUnreachable):
        LocalDocker({"DOCKER_HOST": url}).submit(submission)
    assert engine.inspect(submission.job_id) is None


def test_an_engine_without_an_init_program_starts_the_service_without_one(
    engine: client.DockerEngine, engine_socket: Path, tao_image: TaoImage, tmp_path: Path
) -> None:
    said = b'{"message": "exec: \\"docker-init\\": executable file not found in $PATH"}'
    answer = b"HTTP/1.1 500 Oops\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s" % (len(said), said)
    submission = make_submission("local-docker", tao_image.names["cosmos-rl"], SERVE)
    try:
        with faulty_proxy(engine_socket, tmp_path, at=b"/start ", answer=answer) as url:
            LocalDocker({"DOCKER_HOST": url}).submit(submission)
        found = engine.inspect(submission.job_id)
        assert found is not None
        assert (found["HostConfig"]["Init"], found["State"]["Status"]) == (False, "running")
    finally:
        engine.stop(submission.job_id, grace_s=0)


def test_a_service_through_tls_is_started_asked_found_and_stopped(
    engine_socket: Path, tao_image: TaoImage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if shutil.which("openssl") is None:
        require_real("openssl, which makes the certificates: apt-get install openssl")
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)  # the docker package would trust these instead
    with tls_proxy(engine_socket, tmp_path) as url:
        platform = LocalDocker({"DOCKER_HOST": url, "DOCKER_TLS_VERIFY": "1", "DOCKER_CERT_PATH": str(tmp_path)})
        command = "echo up; kill -9 $$"
        submission = make_submission("local-docker", tao_image.names["cosmos-rl"], command)
        entry = submission.label
        try:
            platform.preflight(submission, pull="never", report=ignore_progress)
            platform.submit(submission)
            assert list(platform.logs(entry, tail=None, follow=True)) == ["up"]
            eventually(lambda: platform.status([entry])[entry["job_id"]].detail == "exit code 137")
            assert entry["job_id"] in [found["job_id"] for found in platform.find()]
            assert all(check.ok for check in platform.doctor())
        finally:
            platform.stop(entry)
        assert not platform.status([entry])[entry["job_id"]].exists


def test_an_engine_over_ssh_names_the_extra_that_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "paramiko", None)
    platform = LocalDocker({"DOCKER_HOST": "ssh://nobody@host.invalid"})
    with pytest.raises(PreflightError, match="paramiko") as caught:
        platform.find()
    assert "moorage[brev]" in caught.value.hint
    assert platform.status([{"job_id": "x"}])["x"].state == "unknown"


@pytest.mark.parametrize(
    ("gpus", "num_gpus", "ids"), [(None, 1, ["0"]), (None, 3, ["0", "1", "2"]), ("2,GPU-5", 2, ["2", "GPU-5"])]
)
def test_gpus_are_asked_for_by_id(
    docker_engine_with_gpus: DockerEngine,
    tao_image_with_gpus: TaoImage,
    gpus: str | None,
    num_gpus: int,
    ids: list[str],
) -> None:
    image = tao_image_with_gpus.names["cosmos-rl"]
    platform = LocalDocker({"DOCKER_HOST": docker_engine_with_gpus.host})
    submission = make_submission("local-docker", image, SERVE, gpus=gpus, num_gpus=num_gpus)
    try:
        platform.preflight(submission, pull="never", report=ignore_progress)
        platform.submit(submission)
        found = json.loads(docker_engine_with_gpus.docker("inspect", submission.job_id).stdout)[0]
        (request,) = found["HostConfig"]["DeviceRequests"]
        assert (request["DeviceIDs"], request["Capabilities"], request["Count"]) == (ids, [["gpu"]], 0)
    finally:
        platform.stop(submission.label)
