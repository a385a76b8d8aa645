"""Containers for the Slurm cluster: a stand-in for pyxis (slurm_pyxis.c), and bundles by runc through Slurm itself.

Both run from one tree of files, made without a registry as the stand-in image is. The stand-in for pyxis changes into
that tree with what was to be mounted, and sets the image's own variables where the job's may not win, as pyxis does.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.real.parts.absence import PartMissing
from tests.real.parts.container_image import base_tar, stand_in_files
from tests.real.parts.slurm_cluster import NODES, SYSTEM_PATH, SlurmCluster

PACKAGES = "gcc libslurm-dev runc"
SOURCE = Path(__file__).with_name("slurm_pyxis.c")
IMAGE_VARIABLES = {"FROM_THE_IMAGE": "image", "TAO_API_JOB_ID": "image"}
"""What the image sets; the second is one that a service sets too."""

HELPER = r"""#!/bin/bash
# IMAGE MOUNTS NAMES FLAGS -- what is left is the task, run in the image's tree.
root={folder}/images/$(printf %s "$1" | tr '/:#' '___')
[ -d "$root" ] || {{ echo "pyxis: failed to import docker image: $1" >&2; exit 1; }}
while IFS='=' read -r name value; do
  case ",$3," in *",$name,"*) ;; *) export "$name=$value" ;; esac
done < {folder}/image.env
export PYXIS_ROOT=$root PYXIS_MOUNTS=$2 PYXIS_FLAGS=$4
shift 4
exec unshare --mount bash -c '
  IFS=,
  for mount in $PYXIS_MOUNTS; do
    IFS=: read -r source target flags <<< "$mount"
    mkdir -p "$PYXIS_ROOT$target" && mount --rbind "$source" "$PYXIS_ROOT$target" || exit 1
    [ -z "$flags" ] || mount -o "remount,bind,$flags" "$PYXIS_ROOT$target" || exit 1
  done
  mount --rbind /proc "$PYXIS_ROOT/proc" && mount --rbind /dev "$PYXIS_ROOT/dev" || exit 1
  unset IFS
  exec chroot "$PYXIS_ROOT" "$@"' task "$@"
"""
OCI_CONFIG = """\
RunTimeQuery="runc --root={folder}/runc state %n.%u.%j.%s.%t"
RunTimeKill="runc --root={folder}/runc kill %n.%u.%j.%s.%t KILL"
RunTimeDelete="runc --root={folder}/runc delete --force %n.%u.%j.%s.%t"
RunTimeRun="exec runc --root={folder}/runc run --bundle %b %n.%u.%j.%s.%t"
"""


@dataclass(frozen=True)
class Containers:
    """What services can be started from."""

    image: str
    """As Docker writes it; the stand-in knows it by pyxis's spelling."""
    bundle: Path
    """An OCI bundle."""


@contextmanager
def slurm_containers(cluster: SlurmCluster, image: str, cache: Path) -> Iterator[Containers]:
    """Give the cluster both for as long as this lasts. Raises PartMissing."""
    for program in ("gcc", "runc"):
        if shutil.which(program, path=SYSTEM_PATH) is None:
            raise PartMissing(f"{program} is not installed: apt-get install {PACKAGES}")
    folder = cluster.folder / "containers"
    bundle = folder / "bundle"
    tree = bundle / "rootfs"
    tree.mkdir(parents=True)
    (folder / "images").mkdir()
    (folder / "images" / re.sub("[/:#]", "_", image)).symlink_to(tree)
    with tarfile.open(base_tar(cache)) as tar:
        tar.extractall(tree, filter="fully_trusted")
    for path, content in stand_in_files().items():
        (tree / path).parent.mkdir(parents=True, exist_ok=True)
        (tree / path).write_text(content)
        (tree / path).chmod(0o755)
    _write_bundle(bundle)
    try:
        _install_plugin(cluster, folder)
        (cluster.folder / "oci.conf").write_text(OCI_CONFIG.format(folder=folder))
        _restart_nodes(cluster)
        yield Containers(image, bundle)
    finally:
        (cluster.folder / "plugstack.conf").write_text("")
        (cluster.folder / "oci.conf").unlink(missing_ok=True)
        _restart_nodes(cluster)


def _install_plugin(cluster: SlurmCluster, folder: Path) -> None:
    plugin, helper = folder / "pyxis.so", folder / "helper"
    command = ["gcc", "-shared", "-fPIC", "-O1", "-Wall", "-o", str(plugin), str(SOURCE)]
    made = subprocess.run(command, capture_output=True, text=True, check=False)
    if "slurm/spank.h" in made.stderr:
        raise PartMissing(f"Slurm's header files are not installed: apt-get install {PACKAGES}")
    assert made.returncode == 0, made.stderr
    helper.write_text(HELPER.format(folder=folder))
    helper.chmod(0o755)
    (folder / "image.env").write_text("".join(f"{name}={value}\n" for name, value in IMAGE_VARIABLES.items()))
    (cluster.folder / "plugstack.conf").write_text(f"required {plugin} {helper}\n")


def _write_bundle(bundle: Path) -> None:
    """As runc describes one, without what needs more than this host gives: a network and control groups of its own."""
    subprocess.run(["runc", "spec", "--bundle", str(bundle)], check=True)
    path = bundle / "config.json"
    config = json.loads(path.read_text())
    config["process"] |= {"terminal": False, "cwd": "/"}
    config["process"].pop("rlimits", None)
    config["root"] = {"path": "rootfs", "readonly": False}
    config["linux"]["namespaces"] = [{"type": kind} for kind in ("mount", "pid", "ipc", "uts")]
    config["linux"].pop("resources", None)
    config["mounts"] = [mount for mount in config["mounts"] if mount["type"] not in ("cgroup", "sysfs")]
    path.write_text(json.dumps(config))


def _restart_nodes(cluster: SlurmCluster) -> None:
    """Plugins are read when a node starts."""
    for name in NODES:
        cluster.stop_node(name)
        cluster.start_node(name)
    cluster.await_idle()
