"""slurm: the service as a batch job of a Slurm cluster, reached through a login host over SSH.

The job is named by the job id, and Slurm is asked by that name, so that a job whose number nobody noted is seen and
stopped all the same. What the job says of itself (its address, its exit code) lies in files that the login host and the
nodes share. This machine's port leads to it by a tunnel, which follows the job when that moves to another node.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence

from moorage.launch.platforms.life import Check, Life

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from moorage.launch.entry import Entry
    from moorage.launch.platforms.base import Report, Submission
    from moorage.launch.platforms.slurm.logins import Logins
    from moorage.launch.platforms.slurm.place import Place
    from moorage.launch.remote.target import RemoteTarget
    from moorage.launch.tunnel.tunnels import TunnelSpec


ASK_EVERY_S = 1.0
"""How long an answer holds in which all services live."""


class Slurm:
    """See the module; `environ` is the caller's environment: SLURM_HOSTNAME and its kind, HOME, SSH_AUTH_SOCK."""

    name = "slurm"

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self._opened: Logins | None = None
        self._seen: tuple[frozenset[str], float, dict[str, Life]] | None = None
        """Of whom, until when it holds, and what: a wait must not bother the controller more than it needs."""

    def doctor(self) -> list[Check]:
        from moorage.launch.platforms.slurm.checks import run_checks

        return run_checks(self._logins(), self._environ)

    def plan(self, submission: Submission) -> dict[str, Any]:
        return {"script": self._script(submission)}

    def preflight(self, submission: Submission, *, pull: str, report: Report) -> Entry:
        from moorage.launch.platforms.slurm.checks import prepare, require
        from moorage.launch.platforms.slurm.options import login_target, read_options

        options = read_options(submission.options, self._environ)
        target = login_target(submission.options, self._environ)
        facts = prepare(self._logins(), target, options)
        return {"login_host": facts.name, "remote": target.as_dict(), "workdir": require(facts, options)}

    def submit(self, submission: Submission) -> Entry:
        from moorage.launch.platforms.slurm.launch import submit_once
        from moorage.launch.platforms.slurm.logins import target_of
        from moorage.launch.platforms.slurm.script import render_env
        from moorage.launch.tunnel.tunnels import end_tunnel, start_tunnel

        entry, place = submission.label, self._place(submission)
        target = target_of(entry, self._environ)
        # The tunnel's end on this machine comes first: a port that is taken must cost no job.
        tunnel = start_tunnel(_tunnel_spec(entry, place, target, submission.port), self._environ)
        try:
            script, env = self._script(submission), render_env(submission)
            number = submit_once(self._logins(), target, place, script=script, env=env, entry=entry)
        except BaseException:
            end_tunnel({**entry, "tunnel": tunnel}, self._environ)
            raise
        return {"platform_job_id": number, "tunnel": tunnel}

    def status(self, entries: Sequence[Entry]) -> dict[str, Life]:
        from moorage.launch.platforms.slurm.look import lives_of

        ids, seen = frozenset(entry["job_id"] for entry in entries), self._seen
        if seen is not None and seen[0] == ids and time.monotonic() < seen[1]:
            return seen[2]
        lives = lives_of(self._logins(), self._environ, entries) if entries else {}
        for entry in entries:
            self._add_tunnel(entry, lives[entry["job_id"]])
        self._seen = None
        if all(life.state == "alive" for life in lives.values()):
            self._seen = ids, time.monotonic() + ASK_EVERY_S, lives
        return lives

    def logs(self, entry: Entry, *, tail: int | None, follow: bool) -> Iterator[str]:
        from moorage.launch.platforms.slurm.logins import target_of
        from moorage.launch.platforms.slurm.look import follow_log, read_log
        from moorage.launch.platforms.slurm.place import place_of

        place = place_of(entry)
        if place is None:
            return iter(())
        if follow:
            return follow_log(self._logins(), self._environ, entry, place, tail)
        return read_log(self._logins(), target_of(entry, self._environ), place, tail)

    def stop(self, entry: Entry) -> None:
        from moorage.launch.platforms.slurm.launch import cancel_job, end_job
        from moorage.launch.platforms.slurm.logins import target_of
        from moorage.launch.platforms.slurm.place import job_number, place_of
        from moorage.launch.tunnel.tunnels import end_tunnel

        self._seen = None
        place, number = place_of(entry), job_number(entry)
        if place is not None:
            end_job(self._logins(), target_of(entry, self._environ), place)
        elif number is not None:  # another tool's, with no files of ours
            cancel_job(self._logins(), target_of(entry, self._environ), number)
        end_tunnel(entry, self._environ)

    def find(self) -> list[Entry]:
        from moorage.launch.platforms.slurm.look import find_entries
        from moorage.launch.platforms.slurm.options import login_target, read_options

        target, options = login_target({}, self._environ), read_options({}, self._environ)
        return find_entries(self._logins(), target, options.workdir)

    def _logins(self) -> Logins:
        from moorage.launch.platforms.slurm.logins import Logins

        if self._opened is None:
            self._opened = Logins(self._environ)
        return self._opened

    def _place(self, submission: Submission) -> Place:
        from moorage.launch.platforms.slurm.options import read_options
        from moorage.launch.platforms.slurm.place import Place

        # A dry run does not log in, so a folder under the login folder stays relative: that is where sbatch runs.
        workdir = submission.label.get("workdir") or read_options(submission.options, self._environ).workdir
        return Place(workdir, submission.job_id)

    def _script(self, submission: Submission) -> str:
        from moorage.launch.platforms.slurm.options import read_options
        from moorage.launch.platforms.slurm.script import render_script

        return render_script(submission, read_options(submission.options, self._environ), self._place(submission))

    def _add_tunnel(self, entry: Entry, life: Life) -> None:
        from moorage.launch.tunnel.tunnels import see_tunnel

        if not entry.get("tunnel") and life.state != "alive":
            return
        field, runs = see_tunnel(entry, self._environ)
        if field is not None:
            life.fields = {**life.fields, "tunnel": field}
        if life.state == "alive" and not runs:
            life.lost_tunnel = self._lost_tunnel(entry)

    def _lost_tunnel(self, entry: Entry) -> TunnelSpec | None:
        """None for a job of another tool: it has no port of ours."""
        from moorage.launch.platforms.slurm.logins import target_of
        from moorage.launch.platforms.slurm.place import place_of

        place, port = place_of(entry), entry.get("host_port")
        if place is None or not isinstance(port, int):
            return None
        return _tunnel_spec(entry, place, target_of(entry, self._environ), port)


def _tunnel_spec(entry: Entry, place: Place, target: RemoteTarget, port: int | None) -> TunnelSpec:
    from moorage.launch.tunnel.tunnels import TunnelSpec

    route = {"kind": "ssh", "remote": target.as_dict(), "address_file": place.address}
    return TunnelSpec(entry["job_id"], port, route)
