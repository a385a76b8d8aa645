"""What every platform must do, as tests: a platform's test class inherits them and gives the fixtures.

A subclass overrides `platform` and, where services run in containers, `image`: one with `/bin/sh` and `python3`. It
sets `binds_port` to False when the platform itself publishes no port, so that a taken one shows only in the service.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import random
import shlex
import socket
import threading
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import pytest

from moorage.errors import PortTaken
from moorage.launch.entry import Entry, now_utc
from moorage.launch.platforms.base import Platform, Submission

WAIT_S = 60.0

SERVER = """
import hashlib, http.server, os
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        name = self.path.strip("/")
        body = hashlib.sha256(os.environb.get(name.encode(), b"")).hexdigest().encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *words):
        print("asked", self.path, flush=True)
address = os.environ.get("MOORAGE_HOST", "0.0.0.0"), int(os.environ.get("MOORAGE_PORT", "8080"))
server = http.server.ThreadingHTTPServer(address, Handler)
print("listening", flush=True)
server.serve_forever()
"""
"""Answers GET /NAME with the SHA-256 of the variable NAME, as hex."""

SERVE = f"umask 0 && python3 -u -c {shlex.quote(SERVER)}"
STUBBORN = "import signal, threading; signal.signal(15, signal.SIG_IGN); print('deaf', flush=True); signal.pause()"


class Make(Protocol):
    """Makes a submission with an id and a free port of its own."""

    def __call__(self, command: str = ..., **changes: Any) -> Submission: ...


Start = Callable[[Submission], Entry]
"""Preflight and submit; the entry. Whatever was started is stopped when the test ends."""


class PlatformContract:
    """Inherit, and give `platform`."""

    binds_port = True
    stop_within_s = 20.0
    """Grace of a stop and what the platform needs besides."""

    @pytest.fixture
    def platform(self) -> Platform:
        raise NotImplementedError

    @pytest.fixture
    def image(self) -> str:
        return "none"

    @pytest.fixture
    def make(self, platform: Platform, image: str) -> Make:
        def make(command: str = SERVE, **changes: Any) -> Submission:
            return make_submission(platform.name, image, command, **changes)

        return make

    @pytest.fixture
    def start(self, platform: Platform) -> Iterator[Start]:
        started: list[Entry] = []

        def start(submission: Submission) -> Entry:
            known = platform.preflight(submission, pull="never", report=ignore_progress)
            submission = submission._replace(label=submission.label | known)
            started.append(dict(submission.label))
            entry = submission.label | platform.submit(submission)
            started[-1] = entry
            return entry

        yield start
        for entry in started:
            platform.stop(entry)

    def test_a_service_lives_from_submit_to_stop(self, platform: Platform, make: Make, start: Start) -> None:
        entry = start(make())
        await_line(platform, entry, "listening")
        life = platform.status([entry])[entry["job_id"]]
        assert (life.state, life.exists) == ("alive", True)
        assert ask(entry, "PATH") != digest("")

        platform.stop(entry)

        life = platform.status([entry])[entry["job_id"]]
        assert (life.state, life.exists) == ("exited", False)
        assert not answers(entry)
        assert entry["job_id"] not in [found["job_id"] for found in platform.find()]
        assert list(platform.logs(entry, tail=None, follow=False)) == []

    def test_stop_is_success_again_and_for_what_never_was(self, platform: Platform, make: Make, start: Start) -> None:
        entry = start(make())
        platform.stop(entry)
        platform.stop(entry)
        platform.stop(make().label)

    def test_two_stops_at_once_both_return_when_it_is_gone(self, platform: Platform, make: Make, start: Start) -> None:
        entry = start(make())
        faults: list[BaseException] = []
        states: list[bool] = []

        def stop() -> None:
            try:
                platform.stop(entry)
                states.append(platform.status([entry])[entry["job_id"]].exists)
            except BaseException as fault:
                faults.append(fault)

        threads = [threading.Thread(target=stop) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(WAIT_S)
        assert (faults, states) == ([], [False, False])

    def test_one_call_tells_the_life_of_all(self, platform: Platform, make: Make, start: Start) -> None:
        alive, dead = start(make()), start(make("exit 3"))
        never = make().label
        drain(platform, dead)
        eventually(lambda: platform.status([dead])[dead["job_id"]].state == "exited")
        lives = platform.status([alive, never, dead])
        assert {job_id: (life.state, life.exists) for job_id, life in lives.items()} == {
            alive["job_id"]: ("alive", True),
            never["job_id"]: ("exited", False),
            dead["job_id"]: ("exited", lives[dead["job_id"]].exists),
        }
        assert platform.status([]) == {}

    def test_a_crash_keeps_its_exit_code_and_its_last_words(self, platform: Platform, make: Make, start: Start) -> None:
        entry = start(make("echo to stdout; echo to stderr >&2; exit 17"))
        drain(platform, entry)
        eventually(lambda: platform.status([entry])[entry["job_id"]].state == "exited")
        assert "exit code 17" in (platform.status([entry])[entry["job_id"]].detail or "")
        assert sorted(platform.logs(entry, tail=None, follow=False)) == ["to stderr", "to stdout"]

    def test_a_command_that_is_not_there_is_seen(self, platform: Platform, make: Make, start: Start) -> None:
        entry = start(make("moorage-no-such-program --port 1"))
        drain(platform, entry)
        eventually(lambda: platform.status([entry])[entry["job_id"]].state == "exited")
        assert "exit code 127" in (platform.status([entry])[entry["job_id"]].detail or "")
        assert any("not found" in line for line in platform.logs(entry, tail=None, follow=False))

    def test_tail_gives_the_last_lines(self, platform: Platform, make: Make, start: Start) -> None:
        entry = start(make("for i in 1 2 3 4 5; do echo $i; done; printf 'no newline'"))
        drain(platform, entry)
        for tail, lines in ((None, 6), (2, 2), (0, 0), (50, 6)):
            found = list(platform.logs(entry, tail=tail, follow=False))
            assert found == ["1", "2", "3", "4", "5", "no newline"][6 - lines :], tail

    def test_log_lines_are_whole_whatever_is_in_them(self, platform: Platform, make: Make, start: Start) -> None:
        program = "import sys; sys.stdout.buffer.write(b'x' * 70000 + b'\\n' + b'\\xff\\xfe!\\n' + 'ü\\r€\\n'.encode())"
        entry = start(make(f"python3 -c {shlex.quote(program)}"))
        drain(platform, entry)
        lines = list(platform.logs(entry, tail=None, follow=False))
        assert lines == ["x" * 70000, "\ufffd\ufffd!", "ü\r€"]

    def test_follow_gives_lines_as_they_come_and_ends_with_the_service(
        self, platform: Platform, make: Make, start: Start
    ) -> None:
        entry = start(make())
        lines = platform.logs(entry, tail=None, follow=True)
        assert next(lines) == "listening"
        ask(entry, "FIRST")
        assert next(lines) == "asked /FIRST"
        ask(entry, "SECOND")
        assert next(lines) == "asked /SECOND"
        stopper = threading.Thread(target=platform.stop, args=[entry])
        stopper.start()
        assert list(lines) == []
        stopper.join(WAIT_S)

    def test_a_followed_log_can_be_left(self, platform: Platform, make: Make, start: Start) -> None:
        entry = start(make())
        lines = platform.logs(entry, tail=None, follow=True)
        assert next(lines) == "listening"
        lines.close()  # type: ignore[attr-defined]
        assert platform.status([entry])[entry["job_id"]].state == "alive"

    def test_a_service_that_ignores_sigterm_is_gone_after_the_grace(
        self, platform: Platform, make: Make, start: Start
    ) -> None:
        entry = start(make(f"exec python3 -c {shlex.quote(STUBBORN)}"))
        await_line(platform, entry, "deaf")
        began = time.monotonic()
        platform.stop(entry)
        assert time.monotonic() - began < self.stop_within_s
        assert not platform.status([entry])[entry["job_id"]].exists

    def test_command_and_environment_arrive_byte_for_byte(self, platform: Platform, make: Make, start: Start) -> None:
        value = "grüße\n'quotes' \"double\" $HOME `id` \\ 模型 🚢\ttab"
        words = "printf '%s\\n' " + shlex.quote(value) + "\n# a comment\necho second; " + SERVE
        entry = start(make(words, env={"STRANGE": value, "EMPTY": ""}))
        await_line(platform, entry, "listening")
        assert list(platform.logs(entry, tail=None, follow=False)) == [*value.split("\n"), "second", "listening"]
        assert ask(entry, "STRANGE") == digest(value)

    def test_a_secret_reaches_the_service_and_is_seen_nowhere_else(
        self, platform: Platform, make: Make, start: Start
    ) -> None:
        secret = f"hf_{uuid.uuid4().hex}"
        submission = make(secret_env={"HF_TOKEN": secret})
        entry = start(submission)
        await_line(platform, entry, "listening")
        assert ask(entry, "HF_TOKEN") == digest(secret)
        seen = [entry, platform.find(), platform.status([entry]), list(platform.logs(entry, tail=None, follow=False))]
        assert secret not in repr(seen)
        assert secret not in repr(submission)

    def test_find_gives_back_the_entry(self, platform: Platform, make: Make, start: Start) -> None:
        submission = make()
        entry = start(submission)
        await_line(platform, entry, "listening")
        found = {item["job_id"]: item for item in platform.find()}[entry["job_id"]]
        assert {name: found[name] for name in submission.label} == submission.label
        json.dumps(found)
        assert platform.status([found])[entry["job_id"]].state == "alive"
        platform.stop(found)
        assert not platform.status([entry])[entry["job_id"]].exists

    def test_two_services_at_once_are_two(self, platform: Platform, make: Make, start: Start) -> None:
        first, second = start(make(env={"WHO": "first"})), start(make(env={"WHO": "second"}))
        for entry in (first, second):
            await_line(platform, entry, "listening")
        assert (ask(first, "WHO"), ask(second, "WHO")) == (digest("first"), digest("second"))
        platform.stop(first)
        assert ask(second, "WHO") == digest("second")

    def test_a_taken_port_is_port_taken_and_leaves_nothing(self, platform: Platform, make: Make, start: Start) -> None:
        if not self.binds_port:
            pytest.skip(f"{platform.name} publishes no port itself: the service finds out")
        secret = uuid.uuid4().hex
        with socket.create_server(("127.0.0.1", 0)) as holder:
            by_process = make(port=holder.getsockname()[1], secret_env={"HF_TOKEN": secret})
            with pytest.raises(PortTaken) as caught:
                start(by_process)
        running = start(make())
        by_service = make(port=running["host_port"])
        with pytest.raises(PortTaken):
            start(by_service)
        lives = platform.status([by_process.label, by_service.label])
        assert {life.exists for life in lives.values()} == {False}
        assert secret not in repr(caught.value) + repr(caught.value.__cause__)

    def test_doctor_tells_and_does_not_raise(self, platform: Platform) -> None:
        checks = platform.doctor()
        assert checks
        assert all(check.name and check.message and (check.ok or check.hint) for check in checks)


def make_submission(platform: str, image: str, command: str, **changes: Any) -> Submission:
    """A submission as the use case makes it, but for what `changes` say."""
    job_id = str(uuid.uuid4())
    port = changes.setdefault("port", free_port())
    label: Entry = {
        "job_id": job_id,
        "platform": platform,
        "network_arch": "vllm",
        "host_url": f"http://localhost:{port}",
        "host_port": port,
        "started_at": now_utc(),
        "image": image,
        "model_path": "hf_model://org/a 'quoted' modèle",
        "num_gpus": 1,
    }
    given: dict[str, Any] = {
        "job_id": job_id,
        "network_arch": "vllm",
        "image": image,
        "command": command,
        "env": {"TAO_API_JOB_ID": job_id},
        "secret_env": {},
        "num_gpus": 1,
        "gpus": "none",
        "runtime": None,
        "mounts": (),
        "program": "python3",
        "python_module": None,
        "engine": None,
        "secret_names": ("HF_TOKEN",),
        "container_port": 8080,
        "readiness_paths": ("/",),
        "options": {},
        "label": label,
    }
    return Submission(**(given | changes))


def free_port() -> int:
    """A port that was free a moment ago, and is none that the kernel gives out: no other program gets it by chance."""
    while True:
        port = random.randrange(10_240, 30_000)
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


def await_line(platform: Platform, entry: Entry, wanted: str) -> None:
    """Follow the log until the line comes. Fails when the service ends first."""
    seen = []
    with contextlib.closing(platform.logs(entry, tail=None, follow=True)) as lines:  # type: ignore[type-var]
        for line in lines:
            if line == wanted:
                return
            seen.append(line)
    raise AssertionError(f"the service ended without {wanted!r}: {seen}")


def drain(platform: Platform, entry: Entry) -> list[str]:
    """Follow the log until the service ends."""
    return list(platform.logs(entry, tail=None, follow=True))


def eventually(condition: Callable[[], bool]) -> None:
    """Ask again until it is so."""
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline, "it never came to be so"
        time.sleep(0.02)


def ask(entry: Entry, name: str) -> str:
    """GET from the service: the digest of the variable `name`.

    Tried again while nothing answers: a tunnel learns a moment after the log where the service listens, and until then
    closes what connects.
    """
    deadline = time.monotonic() + WAIT_S
    while True:
        try:
            with urllib.request.urlopen(f"{entry['host_url']}/{name}", timeout=WAIT_S) as reply:
                body: bytes = reply.read()
                return body.decode()
        except urllib.error.HTTPError:
            raise
        except OSError:
            if time.monotonic() > deadline:
                raise
        time.sleep(0.05)


def answers(entry: Entry) -> bool:
    """Whether anything listens on the service's port."""
    try:
        socket.create_connection(("127.0.0.1", entry["host_port"]), timeout=5).close()
    except OSError:
        return False
    return True


def digest(value: str) -> str:
    """As the service answers it."""
    return hashlib.sha256(value.encode()).hexdigest()


def ignore_progress(phase: str, message: str, **numbers: float) -> None:
    """A report that nobody reads."""
