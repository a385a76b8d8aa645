"""Files of another machine by its shell: commands to send, for any POSIX system. Pure."""

from __future__ import annotations

import shlex

NOT_THERE = 44
"""Exit status of `read_command` when the file does not exist."""


def write_command(path: str, size_bytes: int, mode: int, part: str) -> str:
    """Writes stdin to `part` beside `path` and renames it, if all of it came: a broken connection ends stdin too."""
    place, temporary = _word(path), _word(part)
    whole = f'[ "$(wc -c < {temporary})" -eq {size_bytes} ] || {{ echo "not all of it came" >&2; false; }}'
    return (
        f"umask 077 && cat > {temporary} && {{ {whole}; }} && chmod {mode:o} {temporary} && mv -f {temporary} {place} "
        f"|| {{ rm -f {temporary}; exit 1; }}"
    )


def read_command(path: str) -> str:
    place = _word(path)
    return f"if [ -e {place} ]; then cat {place}; else ls -d {place} >/dev/null 2>&1; exit {NOT_THERE}; fi"


def remove_command(path: str) -> str:
    return f"rm -f {_word(path)}"


def folder_command(path: str, mode: int) -> str:
    place = _word(path)
    return f"umask {0o777 & ~mode:03o} && {{ [ -d {place} ] || mkdir -p {place}; }}"


def _word(path: str) -> str:
    """Quoted, and never taken for an option."""
    return shlex.quote(path if path.startswith("/") else f"./{path}")
