"""A container image made without a registry: Debian packages unpacked into a folder, and the TAO stand-in.

The unpacked packages are kept as one tar file in the user's cache, named by the packages' versions; the stand-in is
added when the image is made, so that it is always the one of this checkout.
"""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import subprocess
import tarfile
import tempfile
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.real.parts import tao_server
from tests.real.parts.absence import PartMissing
from tests.real.parts.docker_engine import DockerEngine

PACKAGES = (
    *("libc6", "zlib1g", "libexpat1", "libssl3", "libbz2-1.0", "liblzma5", "libffi8", "libsqlite3-0", "libuuid1"),
    *("python3.11-minimal", "libpython3.11-minimal", "libpython3.11-stdlib", "busybox-static"),
)
APPLETS = (
    *("[", "awk", "cat", "chmod", "chown", "cp", "cut", "date", "dd", "df", "echo", "env"),
    *("expr", "false", "find", "grep", "head", "hostname", "id", "ip", "kill", "ln", "ls", "mkdir"),
    *("mount", "mv", "nc", "ps", "pwd", "rm", "sed", "sh", "sleep", "sort", "stat", "tail"),
    *("tar", "tee", "test", "touch", "tr", "true", "uname", "wc", "wget"),
)
"""Programs that busybox is linked as."""

LEFT_OUT = ("usr/share/doc", "usr/share/man", "usr/share/lintian", "usr/share/locale")
LABEL = "moorage.test-parts"
MODULES = "usr/local/lib/python3.11/dist-packages"
HF_SERVER = "nvidia_tao_core.microservices.handlers.huggingface_inference_microservice_server"
TAO_ARCHS = {
    "cosmos-rl": "IMAGE_COSMOS_RL",
    "cosmos-predict2.5": "IMAGE_COSMOS_PREDICT2_5",
    "tao-dataservices": "IMAGE_TAO_DATASERVICES",
}
"""Arch → the variable that overrides its image."""


@dataclass(frozen=True)
class TaoImage:
    """The stand-in image in one engine, under the name that each arch's service will ask for."""

    names: dict[str, str]
    """Arch → image."""
    environ: dict[str, str] = field(default_factory=dict)
    """`IMAGE_*` variables without which the names would be others; empty where the names are the real ones."""


def load_tao_image(engine: DockerEngine, real_names: Mapping[str, str], cache: Path) -> TaoImage:
    """Make the image in `engine`. Raises PartMissing when the packages cannot be had.

    In a private engine it gets the images' real names. In one that is not ours it gets names of this run only, with
    overrides: a machine must not be left with a stand-in under a real image's name.
    """
    base = base_tar(cache)
    with tempfile.TemporaryDirectory(prefix="moor-image-") as folder:
        whole = Path(folder) / "image.tar"
        shutil.copyfile(base, whole)
        with tarfile.open(whole, "a") as tar:
            for path, content in stand_in_files().items():
                _add(tar, path, content)
        first = f"moorage-test/tao:{uuid.uuid4().hex[:12]}"
        changes = ("ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", 'CMD ["/bin/sh"]')
        changes += (f"LABEL {LABEL}={os.getpid()}",)
        options = [word for change in changes for word in ("--change", change)]
        engine.docker("import", *options, "-", first, stdin=whole)
    if not engine.private:
        return TaoImage(dict.fromkeys(TAO_ARCHS, first), dict.fromkeys(TAO_ARCHS.values(), first))
    for name in set(real_names.values()):
        engine.docker("tag", first, name)
    return TaoImage(dict(real_names))


def unload(engine: DockerEngine, image: TaoImage) -> None:
    """Take the image out of an engine that is not ours, with the containers that were left on it."""
    for name in set(image.names.values()):
        left = engine.docker("ps", "-aq", "--filter", f"ancestor={name}", check=False).stdout.split()
        if left:
            engine.docker("rm", "-f", *left, check=False)
        engine.docker("rmi", "-f", name, check=False)


def base_tar(cache: Path) -> Path:
    """The unpacked packages as a tar file, from the cache when it has these versions."""
    packages = _package_files()
    recipe = repr((sorted(packages), APPLETS, LEFT_OUT))
    kept = cache / f"python-{hashlib.sha256(recipe.encode()).hexdigest()[:16]}.tar"
    if kept.exists():
        return kept
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="moor-image-") as folder:
        # apt downloads as a user of its own, who must be able to write here.
        downloads, tree = Path(folder) / "downloads", Path(folder) / "tree"
        Path(folder).chmod(0o755)
        downloads.mkdir()
        downloads.chmod(0o777)
        tree.mkdir()
        _apt("download", *PACKAGES, cwd=downloads)
        for package in sorted(downloads.glob("*.deb")):
            subprocess.run(["dpkg-deb", "--extract", str(package), str(tree)], check=True)
        _furnish(tree)
        unfinished = cache / f".{kept.name}.{uuid.uuid4().hex}"
        subprocess.run(["tar", "-C", str(tree), "-cf", str(unfinished), "."], check=True)
        unfinished.replace(kept)
    return kept


def stand_in_files() -> dict[str, str]:
    """Path in the image → content: the stand-in, and the three programs that the real images have."""
    module = f"{MODULES}/tao_stand_in.py"
    handlers = HF_SERVER.split(".")
    files = {module: Path(tao_server.__file__).read_text(encoding="utf-8")}
    files |= {f"{MODULES}/{'/'.join(handlers[:depth])}/__init__.py": "" for depth in range(1, len(handlers))}
    files[f"{MODULES}/{'/'.join(handlers)}.py"] = _program("tao-dataservices", "/usr/bin/python3")
    files["usr/local/bin/cosmos-rl-inference-microservice"] = _program("cosmos-rl", "/usr/bin/python3")
    files["usr/local/bin/cosmos_predict"] = _program("cosmos-predict2.5", "/usr/bin/python3")
    return files


def programs_on_path(folder: Path, python: str) -> Path:
    """The two programs outside a container, for services on local-process: put the folder on PATH."""
    (folder / "tao_stand_in.py").write_text(Path(tao_server.__file__).read_text(encoding="utf-8"), encoding="utf-8")
    for name, arch in (("cosmos-rl-inference-microservice", "cosmos-rl"), ("cosmos_predict", "cosmos-predict2.5")):
        (folder / name).write_text(_program(arch, python), encoding="utf-8")
        (folder / name).chmod(0o755)
    return folder


def _program(arch: str, python: str) -> str:
    """Python finds `tao_stand_in` in the image's module folder, or beside the program."""
    return f"#!{python}\nimport sys\n\nfrom tao_stand_in import main\n\nmain({arch!r}, sys.argv[1:])\n"


def _package_files() -> list[str]:
    """File names of the packages, which hold their versions."""
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        raise PartMissing("no container image: it is made of Debian packages, and there is no apt-get here")
    listed = _apt("download", "--print-uris", *PACKAGES).split("\n")
    return [line.split()[1] for line in listed if line.startswith("'")]


def _apt(*arguments: str, cwd: Path | None = None) -> str:
    """Ask apt, once more after an update when it is root and its lists are old or empty."""
    command = ["apt-get", "-qq", *arguments]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    if done.returncode != 0 and os.geteuid() == 0:
        subprocess.run(["apt-get", "-qq", "update"], capture_output=True, check=False)
        done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise PartMissing(f"no container image: apt-get has not {', '.join(PACKAGES)}: {done.stderr.strip()[-500:]}")
    return done.stdout


def _furnish(tree: Path) -> None:
    for left_out in LEFT_OUT:
        shutil.rmtree(tree / left_out, ignore_errors=True)
    for place in ("bin", "dev", "etc", "proc", "root", "run", "sys", "tmp", "usr/bin", "usr/local/bin"):
        (tree / place).mkdir(parents=True, exist_ok=True)
    (tree / "tmp").chmod(0o1777)
    for applet in APPLETS:
        (tree / "bin" / applet).unlink(missing_ok=True)
        (tree / "bin" / applet).symlink_to("/bin/busybox")
    for name in ("python3", "python"):
        (tree / "usr/bin" / name).unlink(missing_ok=True)
        (tree / "usr/bin" / name).symlink_to("python3.11")
    (tree / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\n")
    (tree / "etc/group").write_text("root:x:0:\n")


def _add(tar: tarfile.TarFile, path: str, content: str) -> None:
    data = content.encode()
    entry = tarfile.TarInfo(f"./{path}")
    entry.size = len(data)
    entry.mode = 0o755 if path.startswith("usr/local/bin/") else 0o644
    tar.addfile(entry, io.BytesIO(data))
