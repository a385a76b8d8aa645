"""local-docker against a real Docker engine: the contract of every platform, and what only Docker has."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from moorage.catalog.bundle import bundle_root
from moorage.catalog.catalog import load_catalog
from moorage.errors import ConflictError, PlatformUnreachable, PreflightError
from moorage.launch.entry import Entry
from moorage.launch.platforms.local_docker import LocalDocker
from tests.contract.platform_contract import (
    SERVE,
    Make,
    PlatformContract,
    Start,
    answers,
    await_line,
    drain,
    free_port,
    ignore_progress,
    make_submission,
)
from tests.real.parts.container_image import TaoImage
from tests.real.parts.docker_engine import DockerEngine

pytestmark = pytest.mark.docker

HEAVY = {"docker", "requests", "urllib3", "http", "ssl", "pydantic", "yaml", "typing", "pathlib", "urllib", "datetime"}
"""Modules that `moor list` has no time for."""

Foreign = Callable[..., Entry]
"""Starts a container as another tool does: its name is the job id, and it has no labels of ours."""


class TestLocalDocker(PlatformContract):
    @pytest.fixture
    def platform(self, docker_engine: DockerEngine) -> LocalDocker:
        return LocalDocker({"DOCKER_HOST": docker_engine.host})

    @pytest.fixture
    def image(self, tao_image: TaoImage) -> str:
        return tao_image.names["cosmos-rl"]

    @pytest.fixture
    def foreign(self, docker_engine: DockerEngine, image: str) -> Iterator[Foreign]:
        names: list[str] = []

        def foreign(*words: str, command: str = SERVE, verb: str = "run -d") -> Entry:
            job_id, port = str(uuid.uuid4()), free_port()
            names.append(job_id)
            published = ["--publish", f"127.0.0.1:{port}:8080", "--name", job_id]
            docker_engine.docker(*verb.split(), "--init", *published, *words, image, "/bin/sh", "-c", command)
            return {"job_id": job_id, "host_port": port, "host_url": f"http://localhost:{port}"}

        yield foreign
        docker_engine.docker("rm", "--force", "--volumes", *names, check=False)

    def test_a_container_is_made_as_the_conventions_say(
        self, make: Make, start: Start, docker_engine: DockerEngine, tmp_path: Path
    ) -> None:
        entry = start(make(mounts=(f"{tmp_path}:/mnt/x:ro",)))
        found = inspect(docker_engine, entry)
        host, labels = found["HostConfig"], found["Config"]["Labels"]
        assert host["PortBindings"] == {"8080/tcp": [{"HostIp": "127.0.0.1", "HostPort": str(entry["host_port"])}]}
        assert (host["AutoRemove"], host["RestartPolicy"]["Name"], host["ShmSize"]) == (False, "no", 8 << 30)
        assert not host["DeviceRequests"]
        assert [(mount["Source"], mount["RW"]) for mount in found["Mounts"]] == [(str(tmp_path), False)]
        assert list(found["NetworkSettings"]["Networks"]) == ["tao_default"]
        assert (labels["tao-job"], labels["moorage.job_id"]) == (entry["job_id"], entry["job_id"])
        assert labels["moorage.owner"] == str(os.getuid())

    def test_services_reach_each_other_by_job_id(self, platform: LocalDocker, make: Make, start: Start) -> None:
        server = start(make())
        await_line(platform, server, "listening")
        url = f"http://{server['job_id']}:8080/PATH"
        client = start(make(f"python3 -c \"import urllib.request as u; print(u.urlopen('{url}').status)\""))
        assert drain(platform, client) == ["200"]

    def test_the_engine_chooses_a_port_when_none_is_given(
        self, platform: LocalDocker, make: Make, start: Start
    ) -> None:
        entry = start(make(port=None))
        await_line(platform, entry, "listening")
        assert answers(entry)
        found = {item["job_id"]: item for item in platform.find()}[entry["job_id"]]
        assert (found["host_port"], found["host_url"]) == (entry["host_port"], f"http://localhost:{entry['host_port']}")

    def test_a_stop_takes_no_grace_where_the_service_ends_by_itself(
        self, platform: LocalDocker, make: Make, start: Start, docker_engine: DockerEngine
    ) -> None:
        entry = start(make())
        await_line(platform, entry, "listening")
        docker_engine.docker("kill", "--signal", "TERM", entry["job_id"])
        drain(platform, entry)  # would not end if the shell, as the first process, ignored the signal

    @pytest.mark.parametrize("words", [(), ("--rm",)])
    def test_containers_of_other_tools_are_asked_and_stopped_too(
        self, platform: LocalDocker, foreign: Foreign, words: tuple[str, ...]
    ) -> None:
        entry = foreign(*words)
        await_line(platform, entry, "listening")
        assert platform.status([entry])[entry["job_id"]].state == "alive"
        assert entry["job_id"] not in [found["job_id"] for found in platform.find()]
        platform.stop(entry)
        assert not platform.status([entry])[entry["job_id"]].exists

    def test_the_beginning_of_an_id_is_nobody_s_name(
        self, platform: LocalDocker, foreign: Foreign, docker_engine: DockerEngine
    ) -> None:
        entry = foreign()
        prefix = inspect(docker_engine, entry)["Id"][:12]
        platform.stop({"job_id": prefix})
        assert list(platform.logs({"job_id": prefix}, tail=None, follow=False)) == []
        lives = platform.status([{"job_id": prefix}, entry])
        assert (lives[prefix].exists, lives[entry["job_id"]].state) == (False, "alive")

    def test_a_name_that_holds_the_job_id_is_another_container(
        self, platform: LocalDocker, foreign: Foreign, docker_engine: DockerEngine
    ) -> None:
        entry = foreign()
        renamed = {**entry, "job_id": f"old-{entry['job_id']}-2"}
        docker_engine.docker("rename", entry["job_id"], renamed["job_id"])
        try:
            platform.stop(entry)
            lives = platform.status([entry, renamed])
            assert lives[entry["job_id"]].detail == "no such container"
            assert lives[renamed["job_id"]].state == "alive"
        finally:
            platform.stop(renamed)

    def test_a_name_in_use_is_a_conflict_and_is_left_alone(
        self, platform: LocalDocker, make: Make, foreign: Foreign
    ) -> None:
        theirs = foreign()
        with pytest.raises(ConflictError) as caught:
            platform.submit(make(job_id=theirs["job_id"]))
        assert caught.value.code == "name_taken"
        assert platform.status([theirs])[theirs["job_id"]].state == "alive"

    def test_states_are_told_in_docker_s_own_words(
        self, platform: LocalDocker, foreign: Foreign, docker_engine: DockerEngine
    ) -> None:
        hungry = foreign("--memory", "32m", "--memory-swap", "32m", command="exec python3 -c 'bytearray(1 << 30)'")
        paused, killed, created, removed = foreign(), foreign(), foreign(verb="create"), foreign()
        drain(platform, hungry)
        for verb, entry in (("pause", paused), ("kill", killed), ("rm --force", removed)):
            docker_engine.docker(*verb.split(), entry["job_id"])
        entries = [hungry, paused, killed, created, removed]
        lives = platform.status(entries)
        assert [(lives[entry["job_id"]].state, lives[entry["job_id"]].detail) for entry in entries] == [
            ("exited", "OOMKilled (exit code 137)"),
            ("alive", "paused"),
            ("exited", "exit code 137"),
            ("alive", "created, not started"),
            ("exited", "no such container"),
        ]
        for entry in entries:
            platform.stop(entry)
        assert {life.exists for life in platform.status(entries).values()} == {False}

    def test_find_tells_the_port_that_is_published_now(self, platform: LocalDocker, make: Make, start: Start) -> None:
        submission = make()
        submission.label["host_port"] = 1
        entry = start(submission)
        found = {item["job_id"]: item for item in platform.find()}[entry["job_id"]]
        assert (found["host_port"], found["host_url"]) == (submission.port, f"http://localhost:{submission.port}")

    def test_anonymous_volumes_go_with_the_container(
        self, platform: LocalDocker, foreign: Foreign, docker_engine: DockerEngine
    ) -> None:
        entry = foreign("--volume", "/anonymous")
        (volume,) = [mount["Name"] for mount in inspect(docker_engine, entry)["Mounts"]]
        platform.stop(entry)
        assert docker_engine.docker("volume", "inspect", volume, check=False).returncode != 0

    def test_a_mount_of_nothing_is_refused_and_leaves_nothing(self, platform: LocalDocker, make: Make) -> None:
        submission = make(mounts=("/no/such/folder:/data",))
        with pytest.raises(PreflightError, match="/no/such/folder") as caught:
            platform.submit(submission)
        assert caught.value.code == "mount_missing"
        assert not platform.status([submission.label])[submission.job_id].exists

    def test_gpus_that_the_engine_cannot_give_name_the_flag_and_leave_nothing(
        self, platform: LocalDocker, make: Make, docker_engine: DockerEngine
    ) -> None:
        has_gpus = "nvidia" in json.loads(docker_engine.docker("info", "--format", "{{json .Runtimes}}").stdout)
        submission = make(gpus="GPU-00000000-none")
        with pytest.raises(PreflightError) as caught:
            platform.submit(submission)
        assert caught.value.code == ("gpu_missing" if has_gpus else "no_gpu")
        assert "--gpus none" in caught.value.hint
        assert not platform.status([submission.label])[submission.job_id].exists

    def test_a_runtime_that_the_engine_lacks_is_missed_before_anything_starts(
        self, make: Make, docker_engine: DockerEngine, tmp_path: Path
    ) -> None:
        tegra = platform_on_tegra(docker_engine, tmp_path)
        with pytest.raises(PreflightError) as caught:
            tegra.preflight(make(gpus=None), pull="never", report=ignore_progress)
        assert (caught.value.code, "--gpus none" in caught.value.hint) == ("no_gpu", True)
        tegra.preflight(make(gpus="none"), pull="never", report=ignore_progress)

    def test_a_network_without_ports_is_refused(self, make: Make, docker_engine: DockerEngine) -> None:
        network = f"moorage-{uuid.uuid4()}"
        docker_engine.docker("network", "create", "--internal", network)
        try:
            for name in (network, "host", "none"):
                platform = LocalDocker({"DOCKER_HOST": docker_engine.host, "DOCKER_NETWORK": name})
                with pytest.raises(PreflightError, match="publishes no ports"):
                    platform.submit(make())
        finally:
            docker_engine.docker("network", "rm", network)


def test_no_engine_is_unknown_for_status_and_an_error_for_the_rest(tmp_path: Path) -> None:
    platform = LocalDocker({"DOCKER_HOST": f"unix://{tmp_path}/docker.sock"})
    entry = {"job_id": str(uuid.uuid4())}
    life = platform.status([entry])[entry["job_id"]]
    assert (life.state, life.exists) == ("unknown", True)
    submission = make_submission("local-docker", "none", "true")
    for ask in (lambda: platform.stop(entry), platform.find, lambda: platform.submit(submission)):
        with pytest.raises(PlatformUnreachable, match="no Docker engine listens"):
            ask()
    with pytest.raises(PlatformUnreachable):
        list(platform.logs(entry, tail=None, follow=False))
    with pytest.raises(PreflightError, match="no Docker engine listens") as caught:
        platform.preflight(submission, pull="missing", report=ignore_progress)
    assert "DOCKER_HOST" in caught.value.hint
    (engine,) = [check for check in platform.doctor() if check.name == "docker engine"]
    assert not engine.ok


def test_without_the_package_the_error_names_the_extra(
    docker_engine: DockerEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "docker", None)
    platform = LocalDocker({"DOCKER_HOST": docker_engine.host})
    submission = make_submission("local-docker", "none", "true")
    with pytest.raises(PreflightError) as caught:
        platform.preflight(submission, pull="never", report=ignore_progress)
    assert "moorage[docker]" in caught.value.hint
    assert platform.status([submission.label])[submission.job_id].detail == "no such container"


def test_asking_what_runs_imports_nothing_heavy(docker_engine: DockerEngine) -> None:
    program = (
        "import sys\n"
        "from moorage.launch.platforms.local_docker import LocalDocker\n"
        f"life = LocalDocker({{'DOCKER_HOST': {docker_engine.host!r}}}).status([{{'job_id': 'x'}}])['x']\n"
        "assert life.detail == 'no such container', life\n"
        f"print(sorted({HEAVY!r} & set(sys.modules)))\n"
    )
    env = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
    done = subprocess.run([sys.executable, "-c", program], env=env, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def inspect(engine: DockerEngine, entry: Entry) -> dict[str, object]:
    found: dict[str, object] = json.loads(engine.docker("inspect", entry["job_id"]).stdout)[0]
    return found


def platform_on_tegra(engine: DockerEngine, folder: Path) -> LocalDocker:
    """local-docker where the file is that marks a Tegra machine, and the runtime for it is one that nobody has."""
    service = load_catalog(bundle_root({})).service
    release_file = folder / "release"
    release_file.touch()
    changes = {"release_file": str(release_file), "runtime": f"moorage-{uuid.uuid4()}"}
    gpu_host = service.optional_gpu_host_env.model_copy(update=changes)
    return LocalDocker({"DOCKER_HOST": engine.host}, service.model_copy(update={"optional_gpu_host_env": gpu_host}))
