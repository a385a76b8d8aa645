"""What a client of remote machines does once it is logged in, as tests: both clients inherit them."""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from moorage.errors import FailedError, PlatformUnreachable, TryAgainError
from moorage.launch.remote.connect import connect
from moorage.launch.remote.host import RemoteHost, Stream
from moorage.launch.remote.target import make_target
from tests.real.parts.network import NetHost
from tests.real.parts.sshd import Sshd

WAIT_S = 60.0
BIG = os.urandom(1 << 20) * 8
DIGEST_PORT, SOURCE_PORT, CLOSED_PORT = 7001, 7002, 7003

SERVICES = f"""
import hashlib, socketserver
class Digest(socketserver.BaseRequestHandler):
    def handle(self):
        digest = hashlib.sha256()
        while data := self.request.recv(65536):
            digest.update(data)
        self.request.sendall(digest.hexdigest().encode())
class Source(socketserver.BaseRequestHandler):
    def handle(self):
        self.request.sendall(bytes(range(256)) * 32768)
class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address, daemon_threads, request_queue_size = True, True, 128
import threading
threading.Thread(target=Server(("127.0.0.1", {SOURCE_PORT}), Source).serve_forever).start()
server = Server(("127.0.0.1", {DIGEST_PORT}), Digest)
print("ready", flush=True)
server.serve_forever()
"""
"""One answers with the digest of all it was sent, the other sends 8 MiB."""


class RemoteContract:
    """What every client must do; a subclass gives its name."""

    client = ""

    @pytest.fixture
    def remote(self, server: Sshd, home: Path, environ: dict[str, str]) -> Iterator[RemoteHost]:
        server.write_client(home, "box")
        with connect(make_target("box", client=self.client), environ) as remote:
            yield remote

    def test_a_command_gets_stdin_and_tells_its_status(self, remote: RemoteHost) -> None:
        assert remote.name == "box"
        assert remote.run("cat; echo bad >&2; exit 3", stdin=b"in") == (3, "in", "bad\n")
        assert remote.run("echo $GREETING") == (0, "from afar\n", "")
        assert remote.run("kill -9 $$").status == 255
        assert remote.run("exit 255").status == 255
        assert remote.run("true", stdin=BIG) == (0, "", "")

    def test_much_goes_both_ways_at_once(self, remote: RemoteHost) -> None:
        text = (b"0123456789abcdef" * (len(BIG) // 16)).decode()
        done = remote.run("tee /dev/stderr", stdin=text.encode())
        assert (done.status, done.out == text, done.err == text) == (0, True, True)

    def test_a_command_that_lasts_too_long_is_given_up(self, remote: RemoteHost) -> None:
        with pytest.raises(TryAgainError, match=r"no end of `sleep 300` within 0\.5 s"):
            remote.run("sleep 300", timeout_s=0.5)
        assert remote.is_alive()

    def test_files(self, remote: RemoteHost, server: Sshd) -> None:
        folder, name = "a b/it's/$HOME", "a b/it's/$HOME/-rf *"
        remote.make_folder(folder)
        remote.make_folder(folder, mode=0o777)
        assert (server.home / folder).stat().st_mode & 0o777 == 0o700
        assert remote.get(name) is None
        remote.put(name, BIG)
        assert (server.home / name).stat().st_mode & 0o777 == 0o600
        assert remote.get(name) == BIG
        remote.put(name, b"", mode=0o640)
        assert (server.home / name).stat().st_mode & 0o777 == 0o640
        assert remote.get(name) == b""
        assert [file.name for file in (server.home / folder).iterdir()] == ["-rf *"]
        remote.remove(name)
        remote.remove(name)
        assert not (server.home / name).exists()

    def test_absolute_paths(self, remote: RemoteHost, server: Sshd) -> None:
        place = server.folder / f"absolute-{self.client}"
        remote.make_folder(str(place / "deep"))
        remote.put(str(place / "deep/file"), b"x")
        assert (place / "deep/file").read_bytes() == b"x"
        assert remote.get(str(place / "deep/file")) == b"x"

    def test_a_refused_file_says_why(self, remote: RemoteHost) -> None:
        with pytest.raises(FailedError, match="box cannot write /proc/self/nothing"):
            remote.put("/proc/self/nothing", b"x")
        with pytest.raises(FailedError, match="box cannot read /proc"):
            remote.get("/proc")
        with pytest.raises(FailedError, match="box cannot make the folder /proc/x/y"):
            remote.make_folder("/proc/x/y")

    def test_a_stream_ends_in_each_direction_by_itself(self, remote: RemoteHost) -> None:
        assert send_for_digest(remote, BIG) == hashlib.sha256(BIG).hexdigest()
        assert send_for_digest(remote, b"") == hashlib.sha256(b"").hexdigest()
        source = remote.open_stream("127.0.0.1", SOURCE_PORT)
        assert read_all(source) == bytes(range(256)) * 32768

    def test_many_streams_at_once(self, remote: RemoteHost) -> None:
        parts = [BIG[start : start + 300_000 + start] for start in range(20)]
        with ThreadPoolExecutor(20) as pool:
            digests = list(pool.map(lambda part: send_for_digest(remote, part), parts))
        assert digests == [hashlib.sha256(part).hexdigest() for part in parts]

    def test_a_port_where_nothing_listens(self, remote: RemoteHost) -> None:
        try:
            stream = remote.open_stream("127.0.0.1", CLOSED_PORT)
            assert read_all(stream) == b""
        except TryAgainError as fault:
            assert f"reaches nothing at 127.0.0.1:{CLOSED_PORT}" in fault.message
        assert remote.is_alive()

    def test_closing_a_stream_wakes_who_reads_it(self, remote: RemoteHost) -> None:
        stream = remote.open_stream("127.0.0.1", DIGEST_PORT)
        reader = threading.Thread(target=read_all, args=(stream,))
        reader.start()
        stream.close()
        reader.join(WAIT_S)
        assert not reader.is_alive()

    def test_a_command_as_a_stream(self, remote: RemoteHost) -> None:
        stream = remote.open_command("cat")
        stream.sendall(b"one")
        assert stream.recv(100) == b"one"
        stream.shutdown_write()
        assert read_all(stream) == b""
        ended = remote.open_command("echo done; exit 1")
        assert read_all(ended) == b"done\n"

    def test_a_noisy_login(self, server: Sshd, home: Path, environ: dict[str, str]) -> None:
        server.write_client(home, "box")
        profile = server.home / ".bashrc"
        profile.write_text("echo Welcome; echo Maintenance on Monday >&2\n")
        try:
            with connect(make_target("box", client=self.client), environ) as remote:
                assert remote.run("echo done").out == "Welcome\ndone\n"
        finally:
            profile.unlink()

    def test_a_cut_link(self, host: NetHost, remote: RemoteHost) -> None:
        host.cut()
        try:
            assert not remote.is_alive(1.0)
            with pytest.raises(PlatformUnreachable, match="box does not answer"):
                remote.run("true", timeout_s=1.0)
        finally:
            host.restore()
        until(lambda: remote.is_alive(1.0))
        assert remote.run("echo back").out == "back\n"

    def test_a_server_that_goes_away(self, other_server: Sshd, home: Path, environ: dict[str, str]) -> None:
        other_server.write_client(home, "other")
        with connect(make_target("other", client=self.client), environ) as remote:
            other_server.stop()
            until(lambda: not remote.is_alive(1.0))
            calls: list[Callable[[], object]] = [
                lambda: remote.run("true"),
                lambda: remote.put("file", b""),
                lambda: remote.get("file"),
                lambda: remote.remove("file"),
                lambda: remote.make_folder("folder"),
                lambda: remote.open_stream("127.0.0.1", DIGEST_PORT),
            ]
            for call in calls:
                with pytest.raises(PlatformUnreachable, match="other does not answer"):
                    call()

    def test_threads_share_a_connection(self, remote: RemoteHost) -> None:
        with ThreadPoolExecutor(4) as pool:
            done = list(pool.map(lambda number: remote.run(f"echo {number}").out, range(16)))
            assert done == [f"{number}\n" for number in range(16)]
            list(pool.map(lambda number: remote.put(f"file{number}", b"x" * number), range(16)))
            assert [len(data or b"") for data in pool.map(remote.get, [f"file{n}" for n in range(16)])] == [*range(16)]


def send_for_digest(remote: RemoteHost, data: bytes) -> str:
    stream = remote.open_stream("127.0.0.1", DIGEST_PORT)
    stream.sendall(data)
    stream.shutdown_write()
    return read_all(stream).decode()


def read_all(stream: Stream) -> bytes:
    found = bytearray()
    try:
        while data := stream.recv(65536):
            found += data
    except OSError:
        pass
    finally:
        stream.close()
    return bytes(found)


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline, f"not within {WAIT_S} s"
        time.sleep(0.02)
