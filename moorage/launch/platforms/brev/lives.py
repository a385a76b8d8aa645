"""What becomes of a service with the instance it is on: values in, values out, no effects."""

from __future__ import annotations

from moorage.launch.platforms.life import Life
from moorage.launch.processes import identity_from, is_alive

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from moorage.errors import MoorageError
    from moorage.launch.platforms.brev.instances import Instance


def life_on(entry: Mapping[str, Any], life: Life) -> Life:
    """The life of a service whose instance answers; `life` is that of its container.

    An instance that a start created is something left on the platform, also when the container never came to be.
    """
    if life.exists or not entry.get("created_instance"):
        return life
    if _is_launched_now(entry):
        return Life(state="alive", detail="being launched")
    name = entry.get("instance_id")
    return Life(state="exited", detail=f"{life.detail}; the Brev instance {name}, which its start made, runs")


def life_beyond(entry: Mapping[str, Any], instance: Instance | None, standing: str, fault: MoorageError) -> Life:
    """The life of a service whose instance SSH does not reach (`fault`), and of which Brev knows this.

    `instance` is None when Brev has none of that name.
    """
    name = entry.get("instance_id")
    if name is None:
        return Life(state="unknown", detail=fault.message)
    if instance is None:
        return Life(state="exited", detail=f"there is no Brev instance {name}", exists=False)
    words = f"the Brev instance {name} is {instance.words}"
    if standing == "coming" or (entry.get("created_instance") and _is_launched_now(entry)):
        return Life(state="alive", detail=words)
    if standing in ("off", "failed"):
        return Life(state="exited", detail=words)
    return Life(state="unknown", detail=f"{fault.message} ({words})")


def cost_words(name: str, *, created: bool) -> str:
    """What a stop leaves: the machine, which costs."""
    ways = f"`brev stop {name}` turns it off"
    if created:
        ways += f", `brev delete {name}` ends it for good (as `moor stop --delete-instance` would have)"
    return f"the Brev instance {name} stays up and costs: {ways}"


def disk_words(instance: Instance, job_id: str) -> str:
    """What a stop leaves on an instance that does not run."""
    return f"the Brev instance {instance.name} is {instance.words}: the container {job_id} stays on its disk"


def _is_launched_now(entry: Mapping[str, Any]) -> bool:
    starter = identity_from(entry.get("starter"))
    return starter is not None and is_alive(starter)
