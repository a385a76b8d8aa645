"""Processes by identity, on real processes."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

from moorage.launch.processes import (
    ProcessIdentity,
    await_begun,
    end_process,
    end_session,
    environment_of,
    identity_from,
    identity_of,
    is_alive,
    read_stat,
    session_members,
)
from tests.contract.stand_ins import until


def spawn(script, **kwargs):
    """A shell in a session of its own, once it has said that it is up."""
    process = subprocess.Popen(
        ["/bin/sh", "-c", script], stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, start_new_session=True, **kwargs
    )
    process.stdout.readline()
    return process


@pytest.fixture
def session():
    """A leader with two children, one of which ignores SIGTERM."""
    process = spawn("(trap '' TERM; while :; do sleep 1000; done) & sleep 1000 & echo up; wait")
    yield process
    identity = identity_of(process.pid)
    if identity:
        end_session(identity, grace_s=0)
    process.wait(5)


def test_our_own_identity():
    me = identity_of(os.getpid())
    assert me is not None
    assert is_alive(me)
    assert identity_from(me.as_field()) == me


def test_a_reused_pid_is_another_process():
    me = identity_of(os.getpid())
    impostor = ProcessIdentity(me.pid, "00000000:1")
    assert not is_alive(impostor)
    assert session_members(impostor) == []
    end_process(impostor, grace_s=0.1)  # must not end this test


@pytest.mark.parametrize("field", [None, 3, {}, {"pid": "1", "started": "x"}, {"pid": -1, "started": "x"}, {"pid": 1}])
def test_a_field_that_is_no_identity(field):
    assert identity_from(field) is None


def test_a_zombie_is_dead():
    process = subprocess.Popen(["/bin/sh", "-c", "exec 1>&-; exit 3"], stdout=subprocess.PIPE)
    process.stdout.read()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # dead, and not collected
    assert read_stat(process.pid).state == "Z"
    assert identity_of(process.pid) is None
    process.wait()


def test_a_process_whose_first_thread_has_ended_lives_on():
    program = """
import ctypes, sys, threading
threading.Thread(target=sys.stdin.readline).start()
print("up", flush=True)
ctypes.CDLL(None).pthread_exit(None)
"""
    process = subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"up\n"
    until(lambda: read_stat(process.pid).state == "Z", "its first thread has ended")
    assert is_alive(ProcessIdentity(process.pid, read_stat(process.pid).started))
    process.stdin.close()
    until(lambda: identity_of(process.pid) is None, "it has ended")
    process.kill()
    process.wait(5)


def test_a_process_that_has_begun_shows_its_environment():
    for _ in range(50):
        process = subprocess.Popen(["sleep", "1000"], env={"MARK": "mine"})
        try:
            assert await_begun(process.pid) == identity_of(process.pid)
            assert environment_of(process.pid) == {"MARK": "mine"}
        finally:
            process.kill()
            process.wait(5)
    assert await_begun(process.pid) is None


def test_a_name_with_brackets_and_spaces_is_parsed(tmp_path):
    program = tmp_path / "a) S 1 (b"
    program.symlink_to(sys.executable)
    process = subprocess.Popen([str(program), "-c", "print(flush=True); input()"], stdin=subprocess.PIPE, stdout=-1)
    process.stdout.readline()
    try:
        assert read_stat(process.pid).session == os.getsid(0)
    finally:
        process.communicate(b"\n")


def test_a_whole_session_ends_also_what_ignores_sigterm(session):
    leader = identity_of(session.pid)
    assert len(session_members(leader)) >= 3
    assert end_session(leader, grace_s=0.2)
    assert session_members(leader) == []


def test_children_are_found_after_their_leader_died(session):
    leader = identity_of(session.pid)
    session.kill()
    session.wait()
    assert not is_alive(leader)
    assert session_members(leader)
    assert end_session(leader, grace_s=0.2)


def test_a_child_that_is_forked_while_the_session_ends_gets_the_signal_too():
    process = spawn("trap 'sleep 1000 & exit' TERM; echo up; while :; do sleep 0.02; done")
    leader = identity_of(process.pid)
    begun = time.monotonic()
    assert end_session(leader, grace_s=60)
    assert time.monotonic() - begun < 30
    process.wait()


def test_a_session_that_is_over_has_no_members():
    process = spawn("echo up")
    leader = ProcessIdentity(process.pid, f"{read_stat(os.getpid()).started.partition(':')[0]}:1")
    process.wait()
    assert session_members(leader) == []
    assert end_session(leader, grace_s=0)


def test_the_environment_of_a_process():
    process = spawn("echo up; sleep 1000; :", env={"MOORAGE_LABEL": "ein Schild=ü\nzwei", "PATH": os.environ["PATH"]})
    try:
        assert environment_of(process.pid)["MOORAGE_LABEL"] == "ein Schild=ü\nzwei"
    finally:
        process.kill()
        process.wait(5)
    assert environment_of(process.pid) == {}


def test_a_process_that_ignores_sigterm_is_killed():
    process = spawn("trap '' TERM; echo up; while :; do sleep 1000; done")
    end_process(identity_of(process.pid), grace_s=0.1)
    assert process.wait(5) == -9
