"""Kubernetes' own programs, compiled once from Debian's source package and kept in the user's cache.

No package has them as binaries. Debian's source package `kubernetes` is the whole tree with all it needs vendored, so
that nothing is fetched but that one package. Compiling takes five minutes on two idle cores; what is kept is five
stripped programs, in a folder named by the version and by this recipe.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.real.parts.absence import PartMissing

VERSION = "1.20.5+really1.20.2-1.1+deb12u1"
PROGRAMS = ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy")
PACKAGES = ("golang-1.19-go", "golang-github-modern-go-reflect2-dev", "dpkg-dev", "rsync", "make", "jq")
"""What compiling needs, as Debian packages."""

GO = Path("/usr/lib/go-1.19/bin")
REFLECT = Path("/usr/share/gocode/src/github.com/modern-go/reflect2")
SOURCES = Path("/etc/apt")
PLACE = Path("/tmp")
PREFIX = "moor-kubernetes-build-"
"""Of folder names; the pid follows."""

LIMIT_S = 40 * 60
REPORT_EVERY_S = 15.0
STAMP = (
    "KUBE_GIT_COMMIT='faecb196815e248d3ecfb03c680a4507229c2a56'\nKUBE_GIT_TREE_STATE='archive'\n"
    "KUBE_GIT_VERSION='v1.20.2'\nKUBE_GIT_MAJOR='1'\nKUBE_GIT_MINOR='20'\n"
)
FLAGS = {"CGO_ENABLED": "0", "GOLDFLAGS": "-s -w", "GOFLAGS": "-v"}
"""Stripped; each compiled package is a line of output, which is how progress is told."""

CHANGES = {
    "pkg/kubelet/status/status_manager.go": ("syncPeriod = 10 * time.Second", "syncPeriod = 500 * time.Millisecond"),
    "pkg/kubelet/kubelet.go": ("ContainerGCPeriod = time.Minute", "ContainerGCPeriod = 2 * time.Second"),
}
"""File → (text, its replacement). A pod that has ended may go when this kubelet looks for it: every ten seconds, and
every minute for one that never ran. Newer ones let it go at once."""

Report = Callable[[str], None]


def find_programs(cache: Path) -> Path | None:
    """The folder of the programs, when they were compiled before."""
    folder = _kept(cache)
    return folder if folder.is_dir() else None


def ensure_programs(cache: Path, report: Report) -> Path:
    """The folder of the programs; compiles them first when the cache lacks them. Raises PartMissing."""
    kept = _kept(cache)
    if kept.is_dir():
        return kept
    _require_root_and_apt()
    cache.mkdir(parents=True, exist_ok=True)
    with _one_at_a_time(cache / ".kubernetes.lock", report):
        if kept.is_dir():
            return kept
        _remove_stale()
        folder = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-", dir=PLACE))
        try:
            _compile(folder, kept, report)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    return kept


def _kept(cache: Path) -> Path:
    recipe = repr((PROGRAMS, STAMP, sorted(FLAGS.items()), CHANGES))
    return cache / f"kubernetes-{VERSION}-{hashlib.sha256(recipe.encode()).hexdigest()[:12]}"


def _require_root_and_apt() -> None:
    if shutil.which("apt-get") is None:
        raise PartMissing("no Kubernetes: it is compiled from Debian's source package, and there is no apt-get here")
    if os.geteuid() != 0:
        raise PartMissing("no Kubernetes: only root can install what compiles it")


@contextmanager
def _one_at_a_time(lock: Path, report: Report) -> Iterator[None]:
    """Two test runs must not compile beside each other; the second one finds it done."""
    with lock.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            report("another run compiles Kubernetes; waiting for it")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _compile(folder: Path, kept: Path, report: Report) -> None:
    began = time.monotonic()
    report(f"compiling Kubernetes {VERSION} from Debian's source, once; about 5 minutes on two idle cores")
    _install_packages()
    tree = _unpack_source(folder)
    _replace_reflect(tree)
    _change(tree)
    _run_make(tree, folder, report)
    unfinished = kept.with_name(f".{kept.name}.{os.getpid()}")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir()
    for program in PROGRAMS:
        shutil.copy2(tree / "_output/local/bin/linux" / _architecture() / program, unfinished / program)
    unfinished.replace(kept)
    report(f"compiled in {time.monotonic() - began:.0f} s; kept in {kept}")


def _install_packages() -> None:
    if (GO / "go").exists() and REFLECT.is_dir() and all(map(shutil.which, ("dpkg-source", "rsync", "make", "jq"))):
        return
    words = ["install", "-y", "-qq", "--no-install-recommends", *PACKAGES]
    if _apt(*words).returncode == 0:
        return
    _apt("update", "-qq")
    done = _apt(*words)
    if done.returncode != 0:
        raise PartMissing(f"no Kubernetes: {' '.join(PACKAGES)} cannot be installed: {done.stderr.strip()[-500:]}")


def _unpack_source(folder: Path) -> Path:
    """The source tree, under the path that Go wants it at. /etc/apt is not touched: the lists are in `folder`."""
    place = folder / "go/src/k8s.io"
    lists = folder / "lists"
    for made in (place, lists / "partial", folder / "home"):
        made.mkdir(parents=True)
    sources = folder / "src.sources"
    sources.write_text(_source_entries())
    own = ("-o", f"Dir::Etc::sourcelist={sources}", "-o", "Dir::Etc::sourceparts=-", "-o", f"Dir::State::lists={lists}")
    own += ("-o", "APT::Sandbox::User=root")
    updated = _apt(*own, "-qq", "update")
    fetched = _apt(*own, "-qq", "source", "--download-only", f"kubernetes={VERSION}", cwd=folder)
    if fetched.returncode != 0:
        said = (updated.stderr + fetched.stderr).strip()[-500:]
        raise PartMissing(f"no Kubernetes: its source package {VERSION} cannot be had: {said}")
    (description,) = folder.glob("kubernetes_*.dsc")
    tree = place / "kubernetes"
    unpack = ["dpkg-source", "--no-check", "-x", str(description), str(tree)]
    subprocess.run(unpack, check=True, capture_output=True, cwd=folder)
    return tree


def _source_entries() -> str:
    """The distribution's own apt sources of this machine, asked for source packages."""
    release = dict(re.findall(r'^(\w+)="?([^"\n]*)"?$', Path("/etc/os-release").read_text(), re.MULTILINE))
    suite = release.get("VERSION_CODENAME", "")
    of_suite = re.compile(rf"(^|\s){re.escape(suite)}(-\w+)?(\s|$)", re.MULTILINE)
    entries = []
    for file in sorted(SOURCES.glob("sources.list.d/*.sources")):
        for entry in re.split(r"\n\s*\n", file.read_text()):
            lines = [line for line in entry.splitlines() if not line.startswith("#")]
            suites = "".join(line for line in lines if line.lower().startswith("suites:"))
            if of_suite.search(suites):
                entries.append("\n".join("Types: deb-src" if line.startswith("Types:") else line for line in lines))
    for file in (SOURCES / "sources.list", *sorted(SOURCES.glob("sources.list.d/*.list"))):
        entries += [_one_line_entry(line) for line in _lines(file) if line.startswith("deb ") and of_suite.search(line)]
    if not entries:
        raise PartMissing(f"no Kubernetes: apt has no source of the distribution {suite!r}")
    return "\n\n".join(entries) + "\n"


def _one_line_entry(line: str) -> str:
    """`deb [options] URI suite components…` as a paragraph; options other than the key are not needed."""
    options = re.search(r"\[(.*?)\]", line)
    uri, suite, *components = re.sub(r"\[.*?\]", "", line).split()[1:]
    key = re.search(r"signed-by=(\S+)", options[1]) if options else None
    signed = f"\nSigned-By: {key[1]}" if key else ""
    return f"Types: deb-src\nURIs: {uri}\nSuites: {suite}\nComponents: {' '.join(components)}{signed}"


def _lines(file: Path) -> list[str]:
    return file.read_text().splitlines() if file.exists() else []


def _replace_reflect(tree: Path) -> None:
    """The vendored reflect2 1.0.1 crashes when compiled with Go 1.18 or newer; Debian packages one that does not."""
    vendored = tree / "vendor/github.com/modern-go/reflect2"
    for old in (*vendored.glob("*.go"), *vendored.glob("*.s")):
        old.unlink()
    for new in (*REFLECT.glob("*.go"), *REFLECT.glob("*.s")):
        if not new.name.endswith("_test.go"):
            shutil.copy(new, vendored)


def _change(tree: Path) -> None:
    for name, (old, new) in CHANGES.items():
        text = (tree / name).read_text()
        if old not in text:
            raise PartMissing(f"no Kubernetes: {name} of {VERSION} has no {old!r}")
        (tree / name).write_text(text.replace(old, new))


def _run_make(tree: Path, folder: Path, report: Report) -> None:
    stamp = folder / "version"
    stamp.write_text(STAMP)
    environ = {"PATH": f"{GO}:/usr/local/bin:/usr/bin:/bin", "HOME": str(folder / "home"), "GOPATH": str(folder / "go")}
    environ |= FLAGS | {"KUBE_GIT_VERSION_FILE": str(stamp), "TMPDIR": str(folder)}
    what = " ".join(f"cmd/{program}" for program in PROGRAMS)
    command = ["setpriv", "--pdeathsig", "KILL", "make", f"WHAT={what}"]
    log = folder / "make.log"
    with log.open("wb") as out:
        make = subprocess.Popen(
            command, cwd=tree, env=environ, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True
        )
        try:
            _await(make, log, report)
        finally:
            if make.poll() is None:
                os.killpg(make.pid, 9)
                make.wait()
    if make.returncode != 0:
        raise PartMissing(f"no Kubernetes: it does not compile here:\n{log.read_text(errors='replace')[-3000:]}")


def _await(make: subprocess.Popen[bytes], log: Path, report: Report) -> None:
    began = time.monotonic()
    while True:
        try:
            make.wait(timeout=REPORT_EVERY_S)
            return
        except subprocess.TimeoutExpired:
            seconds = time.monotonic() - began
        packages = sum(line[:1].islower() for line in log.read_text(errors="replace").splitlines())
        report(f"compiling Kubernetes: {packages} packages, {seconds:.0f} s")
        if seconds > LIMIT_S:
            raise PartMissing(f"no Kubernetes: not compiled after {LIMIT_S} s")


def _architecture() -> str:
    asked = subprocess.run([str(GO / "go"), "env", "GOARCH"], capture_output=True, text=True, check=True)
    return asked.stdout.strip()


def _apt(*words: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    environ = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C"}
    return subprocess.run(["apt-get", *words], cwd=cwd, env=environ, capture_output=True, text=True, check=False)


def _remove_stale() -> None:
    """Folders of builds that were killed."""
    for folder in PLACE.glob(f"{PREFIX}*-*"):
        if not Path("/proc", folder.name.removeprefix(PREFIX).partition("-")[0]).exists():
            shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    home = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    ensure_programs(Path(home) / "moorage" / "test-parts", lambda line: sys.stdout.write(f"{line}\n"))
