# Sourced by scripts/quickstart and scripts/test: makes the checkout's own environment, .venv, and keeps it good.
# Needs $root, the checkout. Talks on stderr only. Ends the script with 5 when something is missing that it cannot get.

began=$(date +%s)

say() {
    printf '[%4ss] %s\n' "$(($(date +%s) - began))" "$*" >&2
}

# give_up MESSAGE [COMMAND]: end with the command that fixes it.
give_up() {
    say "error: $1"
    [ $# -lt 2 ] || say "  try: $2"
    exit 5
}

# ensure_environment base|dev: .venv with this package, editable, and with the tools of the tests for dev.
ensure_environment() {
    wanted=$1
    # One at a time: two commands started together must not install into each other.
    exec 9<"$root/pyproject.toml"
    if command -v flock >/dev/null 2>&1; then
        flock --nonblock 9 || { say "another command is setting up $root/.venv; waiting"; flock 9; }
    fi
    if environment_is_good "$wanted"; then
        exec 9<&-
        return 0
    fi
    find_python
    if ! environment_can_be_mended; then
        say "making a Python environment in $root/.venv"
        make_environment
    fi
    say "installing moorage and what it needs into .venv"
    extras=
    [ "$wanted" = base ] || extras="[$wanted]"
    install "$extras"
    environment_is_good "$wanted" || give_up "the environment in $root/.venv does not work" "rm -r $root/.venv"
    exec 9<&-
}

# An environment that was moved has the old place in its programs.
environment_can_be_mended() {
    "$root/.venv/bin/python" -c 'import sys, pip; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 &&
        grep -qF "$root/.venv/bin/python" "$root/.venv/bin/pip"
}

# Good: made for this checkout, this pyproject.toml and this Python, with at least the wanted extras, and importable.
environment_is_good() {
    [ -x "$root/.venv/bin/python" ] && "$root/.venv/bin/python" - "$root" "$1" >/dev/null 2>&1 <<'PYTHON'
import hashlib, importlib.util, pathlib, sys

sys.path.pop(0)  # what counts is what is installed, not what lies in this folder
root, wanted = pathlib.Path(sys.argv[1]), sys.argv[2]
kept = (root / ".venv/moorage-setup").read_text().split("\n")
digest = hashlib.sha256((root / "pyproject.toml").read_bytes()).hexdigest()
if kept[:3] != [sys.version.split()[0], digest, str(root)] or (wanted != "base" and wanted not in kept[3].split(",")):
    sys.exit("made for something else")
if not (root / ".venv/bin/moor").exists():
    sys.exit("incomplete")
if not pathlib.Path(importlib.util.find_spec("moorage").origin).is_relative_to(root):
    sys.exit("another checkout is installed here")
import pydantic, requests, rich, yaml

if wanted == "dev":
    import docker, hypothesis, pytest, pytest_cov, xdist
PYTHON
}

# Sets $python: the first Python of at least 3.11.
find_python() {
    for python in python3 python3.11 python3.12 python3.13 python3.14; do
        if "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then
            return 0
        fi
    done
    apt_get_install python3 python3-venv ||
        give_up "Python 3.11 or newer is needed" "sudo apt-get install -y python3 python3-venv"
    python=python3
    "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || give_up "$("$python" --version) is too old"
}

make_environment() {
    # Debian keeps ensurepip, without which there is no pip in a new environment, in a package of its own.
    if ! "$python" -c 'import ensurepip' >/dev/null 2>&1; then
        apt_get_install python3-venv ||
            give_up "$python cannot make environments" "sudo apt-get install -y python3-venv"
    fi
    "$python" -m venv --clear "$root/.venv" >&2 || give_up "$python could not make $root/.venv"
}

# install EXTRAS
install() {
    log="$root/.venv/moorage-setup.log"
    rm -f "$root/.venv/moorage-setup"
    if ! "$root/.venv/bin/python" -m pip --disable-pip-version-check --no-input install -e "$root$1" \
        >"$log" 2>&1 </dev/null; then
        tail -n 20 "$log" >&2
        give_up "pip could not install moorage; the whole output is in $log"
    fi
    # Written last: without it the environment is made again.
    "$root/.venv/bin/python" - "$root" "$1" <<'PYTHON'
import hashlib, pathlib, sys

root = pathlib.Path(sys.argv[1])
digest = hashlib.sha256((root / "pyproject.toml").read_bytes()).hexdigest()
made_for = [sys.version.split()[0], digest, str(root), sys.argv[2].strip("[]")]
(root / ".venv/moorage-setup").write_text("\n".join(made_for))
PYTHON
}

# apt_get_install PACKAGE...: when root on Debian; false otherwise.
apt_get_install() {
    if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null 2>&1; then
        return 1
    fi
    say "installing Debian packages: $*"
    apt_log=$(mktemp)
    if ! apt_get install "$@" && ! { apt_get update && apt_get install "$@"; }; then
        tail -n 20 "$apt_log" >&2
        rm -f "$apt_log"
        return 1
    fi
    rm -f "$apt_log"
}

apt_get() {
    DEBIAN_FRONTEND=noninteractive apt-get -qq -y --no-install-recommends "$@" >>"$apt_log" 2>&1 </dev/null
}
