"""What goes wrong on the way to a machine, in words: the same for every client. Pure."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence

from moorage.errors import FailedError, MoorageError, PlatformUnreachable, PreflightError, TryAgainError

MFA_HINT = (
    "a site that asks for more than a key: set ControlMaster auto and ControlPath in ~/.ssh/config, log in once with "
    "ssh, keep that open, and use --ssh-client openssh"
)


def unreachable(name: str, reason: object) -> PlatformUnreachable:
    """No connection, or none any more."""
    text = str(reason).strip() or type(reason).__name__
    return PlatformUnreachable(f"{name} does not answer: {text}", hint="see whether `ssh` reaches it from here")


def host_key_unknown(alias: str, host: str, kind: str, print_: str, *, command: Sequence[str]) -> PreflightError:
    """`command`: ssh words that ask the user about the key and note it."""
    return PreflightError(
        f"the host key of {alias} ({host}) is not known: {kind} {print_}",
        code="host_key_unknown",
        hint="compare the fingerprint with what the site publishes; ssh asks, and notes the key when you agree",
        next=[shlex.join(command)],
        data={"host": host, "fingerprint": print_},
    )


def host_key_changed(
    alias: str, host: str, kind: str, print_: str, *, known_file: str, name: str, command: Sequence[str]
) -> PreflightError:
    """The key is not the one that `known_file` has under `name`."""
    return PreflightError(
        f"the host key of {alias} ({host}) has changed: it shows {kind} {print_}, and {known_file} has another one",
        code="host_key_changed",
        hint="the host was set up anew, or someone is in between: ask its admins for the new fingerprint before you "
        "forget the old key",
        next=[shlex.join(["ssh-keygen", "-f", known_file, "-R", name]), shlex.join(command)],
        data={"host": host, "fingerprint": print_},
    )


def host_key_revoked(alias: str, host: str, kind: str, print_: str) -> PreflightError:
    return PreflightError(
        f"the host key of {alias} ({host}) is marked as revoked: {kind} {print_}",
        code="host_key_changed",
        hint="known_hosts forbids this key: ask the admins of the host",
        data={"host": host, "fingerprint": print_},
    )


def login_refused(alias: str, user: str, tried: Sequence[str], environ: Mapping[str, str]) -> PreflightError:
    """`tried`: what was offered, in words. The hint names the variables that are missing."""
    offered = f"it was offered {', '.join(tried)}" if tried else "there is no key to offer"
    missing = [name for name in ("SSH_KEY_PATH", "SSH_AUTH_SOCK") if not environ.get(name)]
    given = "SSH_KEY_PATH names a private key, SSH_AUTH_SOCK an agent that holds one (ssh-add)"
    hint = f"{' and '.join(missing)} {'are' if len(missing) > 1 else 'is'} not set: {given}" if missing else given
    return PreflightError(
        f"{alias} refuses to log {user} in: {offered}",
        code="login_refused",
        hint=f"{hint}; the host must have its public half",
    )


def needs_more(alias: str, user: str, methods: Sequence[str]) -> PreflightError:
    """A key is not enough, or not wanted."""
    return PreflightError(
        f"{alias} asks {user} for more than a key: {', '.join(methods) or 'another way to log in'}",
        code="login_refused",
        hint=MFA_HINT,
    )


def port_closed(name: str, address: str, port: int, reason: object) -> TryAgainError:
    """The machine is there; nothing listens where it should lead."""
    return TryAgainError(f"{name} reaches nothing at {address}:{port}: {reason}", code="port_closed")


def forwarding_refused(name: str, reason: object) -> FailedError:
    return FailedError(
        f"{name} lets no connection through: {reason}",
        code="forwarding_refused",
        hint="its sshd must have AllowTcpForwarding yes (or local)",
    )


def took_too_long(name: str, command: str, timeout_s: float) -> TryAgainError:
    first = command.split("\n", 1)[0][:80]
    return TryAgainError(f"{name}: no end of `{first}` within {timeout_s:g} s", code="remote_timeout")


def refused_file(name: str, doing: str, path: str, reason: object) -> FailedError:
    return FailedError(f"{name} cannot {doing} {path}: {reason}", code="remote_file")


def none_answers(faults: Mapping[str, MoorageError]) -> MoorageError:
    """One fault for all hosts that were tried: a refused login tells more than a silent host."""
    refused = [fault for fault in faults.values() if isinstance(fault, PreflightError)]
    first = refused[0] if refused else next(iter(faults.values()))
    if len(faults) == 1:
        return first
    message = "; ".join(fault.message for fault in faults.values())
    return type(first)(message, code=first.code, hint=first.hint, next=first.next, data=first.data)
