"""What `doctor` says of Brev: the command, the login, and each instance that runs."""

from __future__ import annotations

from moorage.errors import MoorageError
from moorage.launch.platforms.docker_checks import gpu_check, package_check, version_check
from moorage.launch.platforms.life import Check

TYPE_CHECKING = False
if TYPE_CHECKING:
    from moorage.launch.platforms.brev_instances import Instance
    from moorage.launch.platforms.brev_machines import BrevMachines


def check_all(machines: BrevMachines) -> list[Check]:
    """Every check; those that need what is missing are left out."""
    checks = [package_check("docker", "docker"), package_check("paramiko", "brev")]
    try:
        checks.append(Check(name="brev command", ok=True, message=machines.cli.version()))
        instances = machines.cli.instances()
    except MoorageError as fault:
        return [*checks, _failed("brev login", fault)]
    checks.append(Check(name="brev login", ok=True, message=_listed(instances)))
    running = [one for one in instances if one.status in ("RUNNING", "UNHEALTHY")]
    if not running or not all(check.ok for check in checks):
        return checks
    try:
        machines.cli.refresh()
    except MoorageError as fault:
        return [*checks, _failed("brev refresh", fault)]
    return [*checks, *(check for one in running for check in _check_instance(machines, one))]


def _check_instance(machines: BrevMachines, instance: Instance) -> list[Check]:
    name = instance.name
    try:
        machines.host(name, None, refresh=False)
    except MoorageError as fault:
        return [_failed(f"ssh {name}", fault)]
    reached = Check(name=f"ssh {name}", ok=True, message=f"answers; {instance.words}")
    try:
        with machines.engine(name, None, refresh=False) as engine:
            version, info = engine.version(), engine.info()
    except MoorageError as fault:
        return [reached, _failed(f"docker on {name}", fault)]
    return [reached, version_check(version, name=f"docker on {name}"), gpu_check(info, name=f"GPUs on {name}")]


def _failed(name: str, fault: MoorageError) -> Check:
    hint = "; ".join(text for text in (fault.hint, *(f"`{command}`" for command in fault.next)) if text)
    return Check(name=name, ok=False, message=fault.message, hint=hint or "see the message")


def _listed(instances: list[Instance]) -> str:
    there = ", ".join(f"{one.name} ({one.words})" for one in instances)
    return f"logged in; instances: {there}" if there else "logged in; no instances"
