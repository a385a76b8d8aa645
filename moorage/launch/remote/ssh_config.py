"""~/.ssh/config as OpenSSH reads it: Host, Match, Include, first value wins, tokens and tildes. Pure.

`~` is the home folder that the caller names. Of Match criteria, `exec`, `canonical` and what OpenSSH added lately never
match: a site that needs them has OpenSSH itself (`--ssh-client openssh`).
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

Include = Callable[[str], Sequence[str]]
"""An Include pattern → the texts of the files it names, in order."""

DEEPEST = 16
SEVERAL = frozenset({"identityfile", "certificatefile"})
"""Options of which every value counts."""
DEFAULT_KEYS = ("id_ed25519", "id_ecdsa", "id_rsa")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How to reach one host, with every token and tilde filled in."""

    alias: str
    """The name that was asked for."""
    host_name: str
    port: int
    user: str
    identity_files: tuple[str, ...]
    """Private keys to try, in order; they may not exist."""
    keys_are_named: bool
    """Whether the keys were configured; otherwise they are OpenSSH's usual ones."""
    identities_only: bool
    """Of an agent's keys, use none but those of `identity_files`."""
    identity_agent: str | None
    """The agent's socket; None: SSH_AUTH_SOCK; `none`: no agent."""
    proxy_jump: tuple[str, ...]
    """Hosts to go through, in order: `[user@]host[:port]`."""
    proxy_command: str | None
    user_known_hosts: tuple[str, ...]
    """Files; the first is where new keys go."""
    global_known_hosts: tuple[str, ...]
    strict: str
    """`yes`: an unknown host key is refused; `accept-new`: it is noted; `no`: any key will do."""
    key_alias: str | None
    """The name under which the host key is known; None: the host's own."""

    @property
    def known_hosts_files(self) -> tuple[str, ...]:
        return (*self.user_known_hosts, *self.global_known_hosts)

    @property
    def place(self) -> str:
        """The host for people: as they call it, and where it is."""
        place = f"{self.host_name}:{self.port}"
        return place if self.alias == self.host_name else f"{self.alias} ({place})"

    @property
    def known_name(self) -> str:
        """How known_hosts calls the host."""
        name = self.key_alias or self.host_name
        return name.lower() if self.port == 22 or self.key_alias else f"[{name.lower()}]:{self.port}"


def settings_of(
    alias: str,
    texts: Sequence[str],
    *,
    home: str,
    local_user: str,
    local_host: str = "localhost",
    user: str | None = None,
    port: int | None = None,
    identity_file: str | None = None,
    include: Include = lambda _: (),
    environ: Mapping[str, str] | None = None,
) -> Settings:
    """Settings for `alias` out of config texts, the user's before the system's. What is given wins over them."""
    options: dict[str, list[str]] = {}
    for name, value in (("user", user), ("port", str(port) if port else None), ("identityfile", identity_file)):
        if value is not None:
            options[name] = [value]
    reader = _Reader(alias, local_user, options, include)
    for is_final in (False, True):
        for text in texts:
            reader.read(text, is_final=is_final)
    return _settings(alias, options, home=home, local_user=local_user, local_host=local_host, environ=environ or {})


def matches_any(name: str, patterns: Sequence[str]) -> bool:
    """OpenSSH's pattern list: `*` and `?`, and `!` in front of what must not match."""
    lowered, found = name.lower(), False
    for pattern in patterns:
        bare = pattern.removeprefix("!").lower().replace("[", "[[]")
        if fnmatchcase(lowered, bare):
            if pattern.startswith("!"):
                return False
            found = True
    return found


def parse_jump(text: str) -> tuple[str | None, str, int | None]:
    """(user, host, port) of one `[user@]host[:port]` or `ssh://…`. Raises ValueError for a port that is none."""
    user, _, place = text.removeprefix("ssh://").rpartition("@")
    found = re.fullmatch(r"\[(?P<bracketed>[^]]+)\](?::(?P<a>\d+))?|(?P<bare>[^:]*)(?::(?P<b>\d+))?|(?P<v6>.*)", place)
    if found is None or not place:
        raise ValueError(f"{text!r} names no host")
    port = found["a"] or found["b"]
    return user or None, found["bracketed"] or found["bare"] or found["v6"], int(port) if port else None


class _Reader:
    """Walks config texts and collects the options that hold for one host."""

    def __init__(self, alias: str, local_user: str, options: dict[str, list[str]], include: Include) -> None:
        self._alias = alias
        self._local_user = local_user
        self._options = options
        self._include = include

    def read(self, text: str, *, is_final: bool, depth: int = 0) -> None:
        holds = True
        for keyword, words in _lines(text):
            if keyword == "host":
                holds = matches_any(self._alias, words)
            elif keyword == "match":
                holds = self._match(words, is_final=is_final)
            elif holds and keyword == "include" and depth < DEEPEST:
                for pattern in words:
                    for included in self._include(pattern):
                        self.read(included, is_final=is_final, depth=depth + 1)
            elif holds and words:
                self._note(keyword, words)

    def _note(self, keyword: str, words: list[str]) -> None:
        if keyword in SEVERAL:
            known = self._options.setdefault(keyword, [])
            known += [word for word in words if word not in known]
        else:
            self._options.setdefault(keyword, words)

    def _match(self, words: list[str], *, is_final: bool) -> bool:
        rest = iter(words)
        for word in rest:
            negated, name = word.startswith("!"), word.removeprefix("!").lower()
            if name in ("all", "final", "canonical"):
                holds = name == "all" or (name == "final" and is_final)
            else:
                holds = self._criterion(name, next(rest, ""))
            if holds is negated:
                return False
        return bool(words)

    def _criterion(self, name: str, argument: str) -> bool:
        host = self._options.get("hostname", ["%h"])[0].replace("%h", self._alias)
        subjects = {
            "host": host,
            "originalhost": self._alias,
            "user": self._options.get("user", [self._local_user])[0],
            "localuser": self._local_user,
        }
        return name in subjects and matches_any(subjects[name], argument.split(","))


def _lines(text: str) -> Iterator[tuple[str, list[str]]]:
    for line in text.splitlines():
        found = re.fullmatch(r"\s*([A-Za-z]\w*)(?:\s*=\s*|\s+)(.*?)\s*", line)
        if found is None:
            continue
        keyword, rest = found[1].lower(), found[2]
        yield keyword, [rest] if keyword in ("proxycommand", "localcommand", "remotecommand") else _words(rest)


def _words(text: str) -> list[str]:
    """Words of a line, with double quotes around those that hold spaces; a # ends it."""
    lexer = shlex.shlex(text, posix=True, punctuation_chars=False)
    lexer.whitespace_split, lexer.commenters, lexer.quotes, lexer.escape = True, "#", '"', ""
    try:
        return list(lexer)
    except ValueError:  # a quote that is not closed
        return text.split()


def _settings(
    alias: str,
    options: dict[str, list[str]],
    *,
    home: str,
    local_user: str,
    local_host: str,
    environ: Mapping[str, str],
) -> Settings:
    def one(name: str, default: str = "") -> str:
        return options.get(name, [default])[0]

    host_name = _fill(one("hostname", "%h"), {"h": alias})
    tokens = {"d": home, "h": host_name, "n": alias, "p": _port(one("port")), "r": one("user", local_user)}
    tokens |= {"u": local_user, "l": local_host, "L": local_host.partition(".")[0], "k": one("hostkeyalias", alias)}

    def path(text: str) -> str:
        text = re.sub(r"\$\{(\w+)\}", lambda found: environ.get(found[1], ""), _fill(text, tokens))
        return f"{home}{text[1:]}" if text == "~" or text.startswith("~/") else text

    def paths(name: str, *default: str) -> tuple[str, ...]:
        return tuple(path(text) for text in options.get(name, default) if text.lower() != "none")

    keys = paths("identityfile")
    way = next((name for name in options if name in ("proxyjump", "proxycommand")), "")
    jump = one("proxyjump") if way == "proxyjump" and one("proxyjump").lower() != "none" else ""
    command = one("proxycommand") if way == "proxycommand" and one("proxycommand").lower() != "none" else None
    agent = one("identityagent")
    return Settings(
        alias=alias,
        host_name=host_name,
        port=int(tokens["p"]),
        user=tokens["r"],
        identity_files=keys or tuple(f"{home}/.ssh/{name}" for name in DEFAULT_KEYS),
        keys_are_named=bool(keys),
        identities_only=one("identitiesonly").lower() in ("yes", "true"),
        identity_agent=_agent(path(agent), environ) if agent else None,
        proxy_jump=tuple(part.strip() for part in jump.split(",") if part.strip()),
        proxy_command=_fill(command, tokens) if command else None,
        user_known_hosts=paths("userknownhostsfile", "~/.ssh/known_hosts", "~/.ssh/known_hosts2"),
        global_known_hosts=paths("globalknownhostsfile", "/etc/ssh/ssh_known_hosts", "/etc/ssh/ssh_known_hosts2"),
        strict={"no": "no", "off": "no", "accept-new": "accept-new"}.get(one("stricthostkeychecking").lower(), "yes"),
        key_alias=one("hostkeyalias").lower() or None,
    )


def _agent(text: str, environ: Mapping[str, str]) -> str | None:
    if text == "SSH_AUTH_SOCK":
        return None
    return environ.get(text[1:], "none") if text.startswith("$") else text


def _port(text: str) -> str:
    return text if text.isdecimal() and 0 < int(text) < 65536 else "22"


def _fill(text: str, tokens: Mapping[str, str]) -> str:
    """Tokens like %h; %% is a percent sign, and one that is not known stays."""
    return re.sub(r"%(.)", lambda found: "%" if found[1] == "%" else tokens.get(found[1], found[0]), text)
