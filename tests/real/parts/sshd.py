"""A real sshd in a network host, with a host key, a client key and a login folder of its own.

The account is root, as the test run must be; its login folder is moved by a user table of the host's own, so that
nothing is read from or written to the real one.
"""

from __future__ import annotations

import pwd
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.real.parts.absence import PartMissing
from tests.real.parts.network import NetHost

PROGRAM = "/usr/sbin/sshd"
READY_S = 60
STOP_S = 30

CONFIG = """\
{extra}
Port {port}
ListenAddress {address}
HostKey {folder}/host_key
PidFile none
AuthorizedKeysFile {folder}/authorized_keys
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM no
StrictModes no
PermitRootLogin prohibit-password
AllowTcpForwarding yes
MaxStartups 100
LogLevel VERBOSE
Subsystem sftp internal-sftp
"""

CLIENT = """\
Host {alias}
  HostName {address}
  Port {port}
  User root
  IdentityFile {key}
  IdentitiesOnly yes
{extra}
"""


class Sshd:
    """One server; `start` and `stop` as often as a test likes."""

    def __init__(self, folder: Path, host: NetHost, *, address: str, port: int, options: Sequence[str]) -> None:
        self.host = host
        self.address = address
        self.port = port
        self.folder = folder
        self.home = folder / "home"
        """The login folder."""
        self.key = folder / "client_key"
        """A private key that it lets in; the public one is beside it."""
        self.options = list(options)
        """More lines of its configuration, which win; from the next start."""
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> str:
        return (self.folder / "sshd.log").read_text(errors="replace")

    @property
    def fingerprint(self) -> str:
        """SHA256:… of the host key."""
        return run_keygen("-l", "-E", "sha256", "-f", f"{self.folder}/host_key.pub").split()[1]

    def start(self) -> None:
        """Start it, with the options and keys as they are now, and wait until it listens."""
        extra = "\n".join(self.options)
        config = CONFIG.format(port=self.port, address=self.address, folder=self.folder, extra=extra)
        (self.folder / "sshd_config").write_text(config)
        command = [PROGRAM, "-D", "-f", f"{self.folder}/sshd_config", "-E", f"{self.folder}/sshd.log"]
        self._process = self.host.popen(command)
        self._await_listening(self._process)

    def stop(self) -> None:
        """End it with every connection it holds, as a reboot does."""
        if self._process is None:
            return
        self._process.kill()
        self._process.wait()
        self._process = None
        mine = f"{PROGRAM} -D -f {self.folder}/sshd_config"
        deadline = time.monotonic() + STOP_S
        while self._end(mine) and time.monotonic() < deadline:
            time.sleep(0.02)

    def drop_connections(self) -> None:
        """End the connections it holds; it goes on."""
        self.host.run(["pkill", "-KILL", "-f", "^sshd: root"], check=False)

    def new_host_key(self) -> None:
        """As after a reinstallation; from the next start."""
        for file in self.folder.glob("host_key*"):
            file.unlink()
        make_key(self.folder / "host_key")

    def known_hosts_line(self) -> str:
        kind, key = (self.folder / "host_key.pub").read_text().split()[:2]
        name = self.address if self.port == 22 else f"[{self.address}]:{self.port}"
        return f"{name} {kind} {key}\n"

    def write_client(self, home: Path, alias: str, *, known: bool = True, options: Sequence[str] = ()) -> None:
        """Add `alias` to HOME/.ssh/config, with a copy of the key, and the host key unless it is not `known`.

        `options`: more lines of the alias's block, which come first and so win.
        """
        folder = home / ".ssh"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        key = folder / f"key_{alias}"
        shutil.copy(self.key, key)
        key.chmod(0o600)
        lines = "\n".join(f"  {line}" for line in options)
        block = CLIENT.format(alias=alias, address=self.address, port=self.port, key=key, extra="")
        head, _, rest = block.partition("\n")
        with (folder / "config").open("a") as config:
            # ssh(1) takes ~ from the user table and not from HOME, so the place of known keys is written out.
            config.write(f"{head}\n{lines}\n{rest.rstrip()}\n  UserKnownHostsFile {folder}/known_hosts\n\n")
        with (folder / "known_hosts").open("a") as hosts:
            hosts.write(self.known_hosts_line() if known else "")

    def _end(self, command: str) -> bool:
        """Whether something of it was still there to be ended: connections are processes of their own names."""
        self.drop_connections()
        left = self.host.run(["pkill", "-KILL", "-f", command], check=False)
        return left.returncode == 0

    def _await_listening(self, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + READY_S
        inside = self.address.startswith("127.")
        while time.monotonic() < deadline and process.poll() is None:
            if "Server listening on" in self.log if inside else _listens(self.address, self.port):
                return
            time.sleep(0.02)
        raise AssertionError(f"sshd does not listen: {self.log if (self.folder / 'sshd.log').exists() else ''}")


@contextmanager
def sshd(
    folder: Path,
    host: NetHost,
    *,
    port: int = 22,
    address: str | None = None,
    options: Sequence[str] = (),
    environ: Mapping[str, str] | None = None,
) -> Iterator[Sshd]:
    """Run one in `host`. Its files go to `folder` (one for each server), `options` are more lines of its config,
    which come first and so win.

    `address`: where it listens; None: where the host is reached from outside. `environ`: variables of every command
    that comes over it. Raises PartMissing when no sshd is installed.
    """
    if not Path(PROGRAM).exists() or shutil.which("ssh-keygen") is None:
        raise PartMissing("sshd is not installed: apt-get install openssh-server openssh-client")
    folder.mkdir(parents=True, exist_ok=True)
    pairs = " ".join(f'"{name}={value}"' for name, value in (environ or {}).items())
    more = [*options, f"SetEnv {pairs}"] if pairs else options
    server = Sshd(folder, host, address=address or host.address, port=port, options=more)
    server.home.mkdir(exist_ok=True)
    (folder / "sshd.log").touch()
    make_key(folder / "host_key")
    make_key(server.key)
    shutil.copy(f"{server.key}.pub", folder / "authorized_keys")
    with _login_folder(host, folder, server.home):
        server.start()
        try:
            yield server
        finally:
            server.stop()


def make_key(path: Path, kind: str = "ed25519", passphrase: str = "") -> None:
    """A key pair: `path` and `path.pub`."""
    if not path.exists():
        run_keygen("-q", "-t", kind, "-N", passphrase, "-C", "moorage-test", "-f", str(path))


def run_keygen(*arguments: str) -> str:
    done = subprocess.run(["ssh-keygen", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"ssh-keygen {' '.join(arguments)}: {done.stderr}"
    return done.stdout


@contextmanager
def _login_folder(host: NetHost, folder: Path, home: Path) -> Iterator[None]:
    """The host sees a user table of its own, where root lives in `home`. Of several servers the last one decides."""
    me = pwd.getpwuid(0)
    lines = Path("/etc/passwd").read_text().splitlines()
    table = folder / "passwd"
    moved = f"{me.pw_name}:x:0:0:root:{home}:/bin/bash"
    table.write_text("\n".join(moved if line.startswith(f"{me.pw_name}:") else line for line in lines) + "\n")
    table.chmod(0o644)
    host.run(["mkdir", "-p", "-m", "755", "/run/sshd"])
    host.run(["mount", "--bind", table, "/etc/passwd"])
    try:
        yield
    finally:
        host.run(["umount", "/etc/passwd"], check=False)


def _listens(address: str, port: int) -> bool:
    try:
        with socket.create_connection((address, port), timeout=5):
            return True
    except OSError:
        return False
