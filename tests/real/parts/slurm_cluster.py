"""A real Slurm cluster in a network host: munge, slurmctld, two nodes with GPUs that are none, and their login by SSH.

It listens in the host's namespaces alone and ends with them. A GPU is a name for /dev/null: it is scheduled and handed
to jobs as a real one is, and computes nothing.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.real.parts.absence import PartMissing
from tests.real.parts.network import NetHost, net_host
from tests.real.parts.sshd import Sshd, sshd

READY_S = 60
PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "sshd")
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
PACKAGES = "slurmctld slurmd slurm-client munge openssh-server"
NODES = {"node1": 17001, "node2": 17002}
"""Name → port of its slurmd."""

CONFIG = """\
ClusterName=moorage
SlurmctldHost=controller({address})
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket={folder}/munge/socket
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool/%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/log/slurmctld.log
SlurmdLogFile={folder}/log/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SwitchType=switch/none
SlurmdParameters=config_overrides
MpiDefault=none
ReturnToService=2
SchedulerParameters=sched_min_interval=0,bf_interval=1
MinJobAge=300
KillWait=5
MessageTimeout=5
GresTypes=gpu
PlugStackConfig={folder}/plugstack.conf
{nodes}
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP OverSubscribe=FORCE:64
PartitionName=short Nodes=ALL MaxTime=10 State=UP OverSubscribe=FORCE:64
PartitionName=down Nodes=ALL State=DOWN
"""
NODE = "NodeName={name} NodeHostname=controller NodeAddr={address} Port={port} CPUs=64 RealMemory=4000 Gres=gpu:h200:2"
GPUS = """\
AutoDetect=off
NodeName=node[1-2] Name=gpu Type=h200 File=/dev/null
NodeName=node[1-2] Name=gpu Type=h200 File=/dev/zero
"""
CGROUP = "CgroupPlugin=cgroup/v1\nConstrainCores=no\nConstrainDevices=no\nConstrainRAMSpace=no\n"


class SlurmCluster:
    """One cluster that schedules. `login`: its login host."""

    def __init__(self, host: NetHost, folder: Path, login: Sshd) -> None:
        self.host = host
        self.folder = folder
        self.login = login
        self.environ = {**os.environ, "SLURM_CONF": str(folder / "slurm.conf"), "PATH": SYSTEM_PATH}
        self._controller: subprocess.Popen[bytes] | None = None
        self._nodes: dict[str, subprocess.Popen[bytes]] = {}

    def slurm(self, *command: str, check: bool = True) -> str:
        """Output of a command of Slurm's, as a user on the login host would type it."""
        return self.host.run(command, check=check, env=self.environ).stdout

    def start_controller(self, *words: str) -> None:
        config = self.folder / "slurm.conf"
        self._controller = self._daemon("slurmctld", "-D", "-f", config, *words, log="slurmctld.out")

    def stop_controller(self) -> None:
        """As when it crashes: running jobs go on."""
        if self._controller is not None:
            _end(self._controller)
            self._controller = None

    def start_node(self, name: str) -> None:
        config = self.folder / "slurm.conf"
        self._nodes[name] = self._daemon("slurmd", "-D", "-f", config, "-N", name, log=f"slurmd-{name}.out")

    def stop_node(self, name: str) -> None:
        """End its slurmd; steps of jobs go on."""
        _end(self._nodes.pop(name))

    def await_idle(self) -> None:
        """Until both nodes take jobs."""
        self.await_output("2", "sinfo", "-h", "-p", "main", "-t", "idle,mix,alloc", "-o", "%D")

    def await_output(self, wanted: str, *command: str) -> None:
        """Until a command of Slurm's prints just that."""
        await_so(lambda: self.slurm(*command, check=False).strip() == wanted, lambda: self.faults)

    @property
    def faults(self) -> str:
        """The ends of the daemons' logs."""
        logs = sorted((self.folder / "log").iterdir())
        return "\n".join(f"{log.name}:\n{log.read_text(errors='replace')[-1500:]}" for log in logs)

    def write_client(self, home: Path) -> dict[str, str]:
        """Let a user with this HOME log in; the variables that say so to Moorage."""
        self.login.write_client(home, "cluster")
        return {"HOME": str(home), "SLURM_HOSTNAME": "cluster", "SLURM_USER": "root"}

    def _daemon(self, *command: str | Path, log: str) -> subprocess.Popen[bytes]:
        # Slurm knows its machines by their host names: each daemon believes that it runs on `controller`.
        words = ["unshare", "--uts", "sh", "-c", 'hostname controller && exec "$@"', "sh", *command]
        with (self.folder / "log" / log).open("ab") as out:
            process: subprocess.Popen[bytes] = self.host.popen(words, stdout=out, stderr=out, env=self.environ)
        return process


@contextmanager
def slurm_cluster() -> Iterator[SlurmCluster]:
    """Run one, and leave nothing of it. Raises PartMissing when this machine cannot."""
    missing = [name for name in PROGRAMS if shutil.which(name, path=SYSTEM_PATH) is None]
    if missing:
        raise PartMissing(f"{', '.join(missing)} not installed: apt-get install {PACKAGES}")
    if os.geteuid() != 0:
        raise PartMissing("only root can run a Slurm cluster of its own")
    with net_host() as host:
        folder = host.folder / "slurm"
        _write_config(folder, host)
        host.run(["mount", "--bind", folder / "hosts", "/etc/hosts"])
        environ = {"SLURM_CONF": str(folder / "slurm.conf")}
        with sshd(host.folder / "sshd", host, environ=environ) as login:
            cluster = SlurmCluster(host, folder, login)
            _start_munge(cluster)
            cluster.start_controller("-c")
            for name in NODES:
                cluster.start_node(name)
            cluster.await_idle()
            yield cluster


def await_so(condition: Callable[[], bool], faults: Callable[[], str] = lambda: "") -> None:
    """Ask again until it is so."""
    deadline = time.monotonic() + READY_S
    while not condition():
        assert time.monotonic() < deadline, f"it never came to be so {faults()}"
        time.sleep(0.05)


def _write_config(folder: Path, host: NetHost) -> None:
    for name in ("munge", "state", "log", *(f"spool/{node}" for node in NODES)):
        (folder / name).mkdir(parents=True)
    nodes = "\n".join(NODE.format(name=name, address=host.address, port=port) for name, port in NODES.items())
    (folder / "slurm.conf").write_text(CONFIG.format(address=host.address, folder=folder, nodes=nodes))
    (folder / "gres.conf").write_text(GPUS)
    (folder / "cgroup.conf").write_text(CGROUP)
    (folder / "plugstack.conf").write_text("")
    # Without a name of its own there, munged waits for a name server that the host does not reach.
    names = ("controller", *NODES, socket.gethostname())
    (folder / "hosts").write_text(f"127.0.0.1 localhost\n{host.address} {' '.join(names)}\n")


def _start_munge(cluster: SlurmCluster) -> None:
    folder = cluster.folder / "munge"
    key = folder / "key"
    key.write_bytes(os.urandom(1024))
    key.chmod(0o400)
    files = {"socket": "socket", "key-file": "key", "pid-file": "pid", "log-file": "log", "seed-file": "seed"}
    words = [f"--{flag}={folder}/{file}" for flag, file in files.items()]
    command = ["munged", "--foreground", "--force", "--num-threads=2", *words]
    with (cluster.folder / "log" / "munged.out").open("ab") as out:
        cluster.host.popen(command, stdout=out, stderr=out, env=cluster.environ)
    await_so((folder / "socket").exists, lambda: cluster.faults)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()
