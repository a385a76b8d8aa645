"""Whether the process that holds the lease is over for certain."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from moorage.serving.reconciling.holder import holder_name, is_gone

TELL = """
from moorage.serving.reconciling.holder import holder_name
print(holder_name("here", "x"), flush=True)
input()
"""

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="/proc tells")


@pytest.fixture
def other():
    with subprocess.Popen(
        [sys.executable, "-c", TELL], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        yield process
        process.kill()


def test_one_that_was_killed_is_gone_also_before_anybody_waits_for_it(other):
    name = other.stdout.readline().strip()
    assert not is_gone(name)
    os.kill(other.pid, signal.SIGSTOP)
    assert not is_gone(name)
    other.kill()
    os.waitid(os.P_PID, other.pid, os.WEXITED | os.WNOWAIT)
    assert is_gone(name)
    other.wait()
    assert is_gone(name)


def test_another_process_of_the_same_number_is_not_it():
    name = holder_name("here", "x")
    assert not is_gone(name)
    born = name.partition("born=")[2].split()[0]
    assert is_gone(name.replace(f"born={born}", f"born={int(born) - 1}"))


@pytest.mark.parametrize("name", ["", "me", "here-7-x", "h-x pid=99999999 born=1 in=another-boot/pid:[1]"])
def test_of_those_who_live_elsewhere_nothing_is_certain(name):
    assert not is_gone(name)


def test_without_proc_nothing_is_certain(tmp_path):
    name = holder_name("here", "x", tmp_path)
    assert name == f"here-{os.getpid()}-x"
    assert not is_gone(name, tmp_path) and not is_gone(holder_name("here", "x"), tmp_path)
