"""A stand-in for the `brev` command and the cloud behind it, since neither can be had: put on PATH as `brev`.

It behaves as brev-cli's source of June 2026 reads, bad habits included: JSON with null for an empty list, names printed
last when piped, names read from a standard input that is no terminal, a command of `exec` run twice when it fails, an
ssh of `port-forward` left behind. Instances come up a step further with each `ls`, and take a real machine (`spares`)
that sshd listens on. Its state is one JSON file, which tests read and change; `BREV_SHIM_STATE` names it.
"""

# ruff: noqa: T201 - a command prints

from __future__ import annotations

import fcntl
import json
import os
import stat
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

COMING_UP = [("DEPLOYING", ""), ("DEPLOYING", "PENDING"), ("RUNNING", "BUILDING"), ("RUNNING", "COMPLETED")]
"""Status and build of a new instance, one step further with each `ls`; `hold_at` keeps it at a step."""

NEW_FLAGS = ("--name", "--type", "--count", "--parallel", "--detached", "--timeout", "--startup-script", "--dry-run")
OLD_FLAGS = ("--gpu", "--cpu", "--detached", "--cloud-cred-id", "--workspace-group-id")

SSH_ENTRY = """\
Host {name}
  Hostname {address}
  IdentityFile "{home}/.brev/brev.pem"
  User {user}
  ServerAliveInterval 30
  UserKnownHostsFile /dev/null
  IdentitiesOnly yes
  StrictHostKeyChecking no
  PasswordAuthentication no
  AddKeysToAgent yes
  ForwardAgent yes
  RequestTTY yes
  ControlMaster auto
  ControlPath {home}/.ssh/brev-control-%C
  ControlPersist 10m
  Port {port}

"""


class Shim:
    """One user's Brev: a folder with the program, its state and a HOME. For tests."""

    def __init__(self, folder: Path, key: Path) -> None:
        self.folder = folder
        self.home = folder / "home"
        self._file = folder / "state.json"
        programs = folder / "bin"
        for made in (programs, self.home / ".brev", self.home / ".ssh"):
            made.mkdir(parents=True, mode=0o700)
        program = programs / "brev"
        program.write_text(f'#!/bin/sh\nexec {sys.executable} -I {Path(__file__).resolve()} "$@"\n')
        program.chmod(0o755)
        pem = self.home / ".brev" / "brev.pem"
        pem.write_bytes(key.read_bytes())
        pem.chmod(0o600)
        (self.home / ".brev" / "credentials.json").write_text("{}")
        self._file.write_text(json.dumps({"workspaces": [], "spares": [], "calls": [], "logged_in": True}))

    @property
    def environ(self) -> dict[str, str]:
        """Variables that put it on PATH."""
        path = f"{self.folder / 'bin'}{os.pathsep}{os.environ['PATH']}"
        return {"PATH": path, "HOME": str(self.home), "BREV_SHIM_STATE": str(self._file)}

    @property
    def state(self) -> dict[str, Any]:
        with _locked(self._file) as state:
            return state

    @property
    def calls(self) -> list[list[str]]:
        """The words of every call so far."""
        return list(self.state["calls"])

    def change(self, **fields: Any) -> None:
        """`logged_in`, `old`, `notice`, `no_capacity`, `hold_at`, `fail_at`, `block`, `spares`…"""
        with _locked(self._file) as state:
            state.update(fields)

    def add_machine(self, address: str, port: int) -> None:
        """Something that the next instance can be."""
        with _locked(self._file) as state:
            state["spares"].append({"address": address, "port": port, "user": "root"})

    def add_instance(
        self, name: str, *, status: str = "RUNNING", build: str = "COMPLETED", kind: str = "cpu.2x8", **machine: Any
    ) -> None:
        """An instance that was there before."""
        with _locked(self._file) as state:
            state["workspaces"].append(_workspace(name, kind, machine) | {"fixed": [status, build]})

    def set_status(self, name: str, status: str, build: str = "COMPLETED") -> None:
        with _locked(self._file) as state:
            for one in state["workspaces"]:
                if one["name"] == name:
                    one["fixed"] = [status, build]

    def names(self) -> list[str]:
        """Of the instances that there are."""
        return [one["name"] for one in self.state["workspaces"]]

    def await_block(self, place: str) -> None:
        """Wait until a call stands at the place that `block` names."""
        deadline = time.monotonic() + 60
        while not (self.folder / f"at-{place}").exists():
            assert time.monotonic() < deadline, f"no call came to {place}: {self.calls}"
            time.sleep(0.01)

    def unblock(self) -> None:
        self.change(block="")


@contextmanager
def _locked(file: Path) -> Iterator[dict[str, Any]]:
    with file.open("r+") as opened:
        fcntl.flock(opened, fcntl.LOCK_EX)
        state = json.loads(opened.read())
        before = json.dumps(state)
        yield state
        if (after := json.dumps(state)) != before:
            opened.seek(0)
            opened.truncate()
            opened.write(after)


def _workspace(name: str, kind: str, machine: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "id": uuid.uuid4().hex[:9], "type": kind, "machine": machine, "step": 0}


def _status(one: dict[str, Any]) -> tuple[str, str]:
    if one.get("fixed"):
        return one["fixed"][0], one["fixed"][1]
    return COMING_UP[min(one["step"], len(COMING_UP) - 1)]


class _Refused(Exception):
    """Shown on stderr; exit status 1."""


class _Call:
    """One call of the program."""

    def __init__(self, file: Path, words: list[str]) -> None:
        self._file = file
        self._words = words
        self._piped = not stat.S_ISCHR(os.fstat(1).st_mode)

    def run(self) -> None:
        with _locked(self._file) as state:
            state["calls"].append(self._words)
            notice, logged_in = state.get("notice"), state["logged_in"]
        if notice:
            print(notice)
        verb, *rest = self._words or ["--help"]
        if verb == "--version":
            print("Current Version: v0.6.400-shim")
            return
        if "--help" not in rest and not logged_in:
            print("You are currently logged out, would you like to log in? [Y/n]: ", end="", flush=True)
            sys.stdin.readline()
            raise _Refused("EOF")
        verbs = {"ls": self._ls, "refresh": self._refresh, "create": self._create, "delete": self._delete}
        verbs |= {"start": self._start, "stop": self._stop, "exec": self._exec, "port-forward": self._forward}
        if verb not in verbs:
            raise _Refused(f'unknown command "{verb}" for "brev"')
        verbs[verb](rest)

    def _ls(self, words: list[str]) -> None:
        self._stand_at("ls")
        with _locked(self._file) as state:
            if state.get("unreachable"):
                raise _Refused("Get https://brevapi.example/api/workspaces: dial tcp: lookup: no such host")
            for one in state["workspaces"]:
                if one["step"] < state.get("hold_at", len(COMING_UP)):
                    one["step"] += 1
                if not one.get("fixed") and state.get("fail_at") == one["step"]:
                    one["fixed"] = ["FAILURE", "CREATE_FAILED"]
            for one in state["workspaces"][:]:
                if _status(one)[0] == "DELETING":
                    state["workspaces"].remove(one)
            rows = [self._row(one) for one in state["workspaces"]]
        if "--json" in words:
            print(json.dumps({"workspaces": rows or None}, indent=2))
        elif self._piped:
            print("\n".join(row["name"] for row in rows))

    def _row(self, one: dict[str, Any]) -> dict[str, str]:
        status, build = _status(one)
        shell = "READY" if (status, build) == ("RUNNING", "COMPLETED") else "NOT READY"
        row = {"name": one["name"], "id": one["id"], "status": status, "build_status": build, "shell_status": shell}
        return row | {"health_status": "", "instance_type": one["type"], "instance_kind": "cpu", "gpu": "-"}

    def _refresh(self, _words: list[str]) -> None:
        print("refreshing brev...")
        self._stand_at("refresh")
        home = os.environ["HOME"]
        with _locked(self._file) as state:
            running = [one for one in state["workspaces"] if _status(one)[0] == "RUNNING"]
        text = "".join(SSH_ENTRY.format(name=one["name"], home=home, **one["machine"]) for one in running)
        _write(Path(home, ".brev", "ssh_config"), f"# included in {home}/.ssh/config\n{text}")
        config = Path(home, ".ssh", "config")
        include = f'Include "{home}/.brev/ssh_config"\n'
        before = config.read_text() if config.exists() else ""
        if include not in before:
            _write(config, include + before)

    def _create(self, words: list[str]) -> None:
        with _locked(self._file) as state:
            old = bool(state.get("old"))
        known = OLD_FLAGS if old else NEW_FLAGS
        if "--help" in words:
            print("Usage:\n  brev create [name]\n\nFlags:")
            print("\n".join(f"  -x, {flag} string   a flag" for flag in known))
            return
        unknown = [word for word in words if word.startswith("--") and word not in known]
        if unknown:
            raise _Refused(f"unknown flag: {unknown[0]}")
        kind = words[words.index("--gpu" if old else "--type") + 1]
        self._stand_at("before-create")
        self._make(words[0], kind)
        self._stand_at("after-create")
        print(f"[Worker 1] {kind} Success! Created instance '{words[0]}'", file=sys.stderr)
        if self._piped:
            print(words[0])

    def _make(self, name: str, kind: str) -> None:
        with _locked(self._file) as state:
            if any(one["name"] == name for one in state["workspaces"]):
                print(f"\nError: workspace '{name}' already exists. Use a different name", file=sys.stderr)
                raise _Refused("could only create 0/1 instances")
            if kind == "no.such":
                print(f'Skipping: instance type "{kind}" is not a recognized type; run ...', file=sys.stderr)
                raise _Refused("could only create 0/1 instances")
            if state.get("no_capacity") or not state["spares"]:
                words = f'instance type "{kind}" is currently unavailable (no capacity); try again later'
                print(f"Skipping: {words}", file=sys.stderr)
                raise _Refused("could only create 0/1 instances")
            state["workspaces"].append(_workspace(name, kind, state["spares"].pop(0)))

    def _delete(self, words: list[str]) -> None:
        self._stand_at("delete")
        self._set(words, "DELETING")

    def _start(self, words: list[str]) -> None:
        names = self._names(words)
        with _locked(self._file) as state:
            for one in state["workspaces"]:
                if one["name"] in names:
                    one.update(fixed=None, step=0)

    def _stop(self, words: list[str]) -> None:
        self._set(words, "STOPPED")

    def _set(self, words: list[str], status: str) -> None:
        names = self._names(words)
        with _locked(self._file) as state:
            there = [one for one in state["workspaces"] if one["name"] in names or one["id"] in names]
            if len(there) < len(names):
                raise _Refused(f"instance with id/name {names} not found")
            for one in there:
                one["fixed"] = [status, ""]
                if status == "DELETING":
                    state["spares"].append(one["machine"])
        if self._piped:
            print("\n".join(names))

    def _names(self, words: list[str]) -> list[str]:
        piped = "" if stat.S_ISCHR(os.fstat(0).st_mode) else sys.stdin.read()
        return [word for word in words if not word.startswith("-")] + piped.split()

    def _exec(self, words: list[str]) -> None:
        *names, command = self._names(words)
        for name in names:
            ssh = ["ssh", "-F", f"{os.environ['HOME']}/.ssh/config", "-T", "-o", "LogLevel=ERROR", name, command]
            if subprocess.run(ssh, stdin=subprocess.DEVNULL, check=False).returncode != 0:
                print("Connection failed, checking instance status...")
                if subprocess.run(ssh, stdin=subprocess.DEVNULL, check=False).returncode != 0:
                    raise _Refused("exit status 1")
            if self._piped:
                print(name)

    def _forward(self, words: list[str]) -> None:
        local, _, remote = words[words.index("-p") + 1].partition(":")
        ssh = ["ssh", "-F", f"{os.environ['HOME']}/.ssh/config", "-T", "-L", f"{local}:127.0.0.1:{remote}"]
        subprocess.Popen([*ssh, words[0], "-N"], stdin=subprocess.DEVNULL, start_new_session=True)

    def _stand_at(self, place: str) -> None:
        """Wait where a test wants it to, so that it can kill what called."""
        marker = self._file.with_name(f"at-{place}")
        while True:
            with _locked(self._file) as state:
                if state.get("block") != place:
                    break
            marker.touch()
            time.sleep(0.01)
        marker.unlink(missing_ok=True)


def _write(path: Path, text: str) -> None:
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    unfinished.write_text(text)
    unfinished.chmod(0o600)
    unfinished.replace(path)


if __name__ == "__main__":
    try:
        _Call(Path(os.environ["BREV_SHIM_STATE"]), sys.argv[1:]).run()
    except _Refused as refused:
        print(refused, file=sys.stderr)
        sys.exit(1)
