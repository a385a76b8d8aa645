"""Slurm's words as ours: states, node lists, answers of commands, refusals of sbatch."""

from __future__ import annotations

import json
import subprocess
from base64 import b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moorage.launch.platforms.slurm.commands import (
    ask_command,
    ask_elsewhere_command,
    cancel_command,
    find_command,
    log_command,
    parse_answer,
    parse_elsewhere,
    parse_found,
    parse_log,
    parse_reply,
    parse_slurm_log,
    parse_where,
    prepare_command,
    remove_command,
    slurm_log_command,
    submit_command,
    where_command,
    whole_path_command,
)
from moorage.launch.platforms.slurm.nodelist import expand_nodes, first_node
from moorage.launch.platforms.slurm.place import Place
from moorage.launch.platforms.slurm.states import (
    ENDED,
    NOTHING_LEFT,
    PHASES,
    Job,
    Left,
    life_of,
    parse_sacct,
    parse_scontrol,
    parse_squeue,
    state_word,
)

ID = "6f1c7a52-3d7e-4c11-9a55-0d2b8e0f6a01"
NAME = f"moorage-{ID}"
RUNNING = f"12|RUNNING|None|node[001-003]|node001|4:00:00|{NAME}\n"
HERE = NOTHING_LEFT._replace(here=True)


def job(state: str, reason: str = "None", *, exit_code: int | None = None) -> Job:
    return Job("12", state, reason, "node1", "4:00:00", NAME, exit_code)


@pytest.mark.parametrize(
    ("text", "nodes"),
    [
        ("node1", ("node1",)),
        ("node[001-003,7],login2", ("node001", "node002", "node003", "node7", "login2")),
        ("a1,b[2-3]c", ("a1", "b2c", "b3c")),
        ("r[1-2]n[01-02]", ("r1n01", "r1n02", "r2n01", "r2n02")),
        ("gpu-[9-11]", ("gpu-9", "gpu-10", "gpu-11")),
        ("", ()),
        (" ", ()),
        ("(null)", ()),
        ("n/a", ()),
        ("None assigned", ()),
    ],
)
def test_node_lists(text: str, nodes: tuple[str, ...]) -> None:
    assert expand_nodes(text) == nodes
    assert first_node(text) == (nodes[0] if nodes else None)


@given(st.lists(st.from_regex(r"[a-z][a-z0-9-]{0,9}", fullmatch=True), min_size=1, unique=True))
def test_plain_names_stay_as_they_are(names: list[str]) -> None:
    assert expand_nodes(",".join(names)) == tuple(names)


@given(st.integers(0, 999), st.integers(0, 200), st.integers(1, 5))
def test_ranges_keep_their_zeros(first: int, more: int, width: int) -> None:
    text = f"n[{first:0{width}d}-{first + more:0{width}d}]"
    assert expand_nodes(text) == tuple(f"n{number:0{width}d}" for number in range(first, first + more + 1))


@given(st.text(alphabet="node[]-,0123456789 ", max_size=40))
def test_no_node_list_breaks_it(text: str) -> None:
    assert all(isinstance(name, str) for name in expand_nodes(text))


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("CANCELLED by 1000", "CANCELLED"),
        ("CANCELLED+", "CANCELLED"),
        ("OUT_OF_ME+", "OUT_OF_ME"),
        ("RUNNING", "RUNNING"),
        ("COMPLETED  ", "COMPLETED"),
        ("", ""),
    ],
)
def test_annotations_are_no_part_of_a_state(text: str, word: str) -> None:
    assert state_word(text) == word


@pytest.mark.parametrize(
    ("state", "reason", "life", "detail", "outlook"),
    [
        ("PENDING", "Resources", "alive", "PENDING: Resources", None),
        ("PENDING", "Priority", "alive", "PENDING: Priority", None),
        ("PENDING", "None", "alive", "PENDING", None),
        ("PENDING", "BeginTime", "alive", "PENDING: BeginTime", None),
        ("PENDING", "ReqNodeNotAvail, UnavailableNodes:node1", "alive", None, None),
        ("PENDING", "QOSMaxGRESPerUser", "alive", "PENDING: QOSMaxGRESPerUser", None),
        ("PENDING", "PartitionTimeLimit", "alive", "PENDING: PartitionTimeLimit", "no_capacity"),
        ("PENDING", "PartitionNodeLimit", "alive", "PENDING: PartitionNodeLimit", "no_capacity"),
        ("PENDING", "BadConstraints", "alive", "PENDING: BadConstraints", "no_capacity"),
        ("PENDING", "QOSMaxGRESPerJob", "alive", "PENDING: QOSMaxGRESPerJob", "no_capacity"),
        ("PENDING", "AssocMaxWallDurationPerJobLimit", "alive", None, "no_capacity"),
        ("PENDING", "InvalidAccount", "alive", "PENDING: InvalidAccount", "failed"),
        ("PENDING", "launch failed requeued held", "alive", "PENDING: launch failed requeued held", "failed"),
        ("PENDING", "JobHeldUser", "alive", "PENDING: JobHeldUser", None),
        ("CONFIGURING", "None", "alive", "CONFIGURING", None),
        ("RUNNING", "None", "alive", None, None),
        ("SUSPENDED", "None", "alive", "SUSPENDED", None),
        ("STOPPED", "None", "alive", "STOPPED", None),
        ("RESIZING", "None", "alive", "RESIZING", None),
        ("SIGNALING", "None", "alive", "SIGNALING", None),
        ("COMPLETING", "None", "alive", "COMPLETING", None),
        ("STAGE_OUT", "None", "alive", "STAGE_OUT", None),
        ("REQUEUED", "None", "alive", "REQUEUED", None),
        ("REQUEUE_FED", "None", "alive", "REQUEUE_FED", None),
        ("REQUEUE_HOLD", "None", "alive", "REQUEUE_HOLD", "failed"),
        ("SPECIAL_EXIT", "None", "alive", "SPECIAL_EXIT", "failed"),
        ("COMPLETED", "None", "exited", "exit code 0", None),
        ("FAILED", "NonZeroExitCode", "exited", "FAILED: NonZeroExitCode", None),
        ("TIMEOUT", "TimeLimit", "exited", "TIMEOUT: the wall time of 4:00:00 is over", None),
        ("OUT_OF_MEMORY", "OutOfMemory", "exited", None, None),
        ("NODE_FAIL", "NodeDown", "exited", "NODE_FAIL: its node failed", None),
        ("BOOT_FAIL", "None", "exited", None, None),
        ("DEADLINE", "DeadLine", "exited", "DEADLINE: it reached its deadline", None),
        ("CANCELLED", "None", "exited", "CANCELLED: the job was cancelled", None),
        ("PREEMPTED", "None", "exited", "PREEMPTED: another job took its place", None),
        ("REVOKED", "None", "exited", None, None),
        ("LEVITATING", "None", "unknown", None, None),
        ("", "None", "unknown", None, None),
    ],
)
def test_every_state(state: str, reason: str, life: str, detail: str | None, outlook: str | None) -> None:
    found = life_of(job(state, reason), HERE)
    assert (found.state, found.outlook, found.exists) == (life, outlook, True)
    assert detail is None or found.detail == detail
    assert found.detail is not None or state == "RUNNING"


def test_a_job_that_is_over_and_has_no_files_is_gone() -> None:
    for state in (word for word, phase in PHASES.items() if phase == ENDED):
        assert not life_of(job(state), NOTHING_LEFT).exists
    assert life_of(job("COMPLETING"), NOTHING_LEFT).exists


def test_what_the_job_left_is_truer_than_slurm_s_summary() -> None:
    ended = HERE._replace(exit_code=17)
    by_slurm = ended._replace(by_slurm=True)
    assert life_of(job("FAILED"), ended).detail == "exit code 17"
    assert life_of(job("FAILED", exit_code=3), HERE).detail == "exit code 3"
    assert life_of(job("COMPLETING"), ended).state == "exited"
    # A job that goes back to the queue completes too, and its service was ended by Slurm.
    assert life_of(job("COMPLETING"), by_slurm).state == "alive"
    assert life_of(job("PENDING"), by_slurm).state == "alive"
    assert life_of(None, ended).detail == "exit code 17"
    assert "ended by Slurm" in str(life_of(None, by_slurm).detail)


def test_a_job_that_nobody_knows() -> None:
    never = life_of(None, NOTHING_LEFT)
    assert (never.state, never.exists) == ("exited", False)
    lost = life_of(None, HERE)
    assert (lost.state, lost.exists) == ("exited", True)


def test_the_node_is_told_only_while_there_is_one() -> None:
    left = HERE._replace(address={"node": "10.0.0.1", "port": 23456})
    assert life_of(job("RUNNING"), left).fields == {
        "platform_job_id": "12",
        "slurm_node": "node1",
        "node_port": 23456,
    }
    assert life_of(job("PENDING"), left).fields == {"platform_job_id": "12", "slurm_node": None, "node_port": None}


def test_squeue_is_read() -> None:
    noise = "CLUSTER: alpha\nsqueue: warning\n\n"
    jobs = parse_squeue(f"{noise}{RUNNING}13|PENDING|Resources||n/a|1:00|other\n")
    assert jobs[NAME] == Job("12", "RUNNING", "None", "node001", "4:00:00", NAME)
    assert jobs["other"].node is None
    # The one that lives, whichever comes first.
    over = f"11|CANCELLED by 0|None|node1|node1|4:00:00|{NAME}\n"
    for text in (over + RUNNING, RUNNING + over):
        assert parse_squeue(text)[NAME].number == "12"
    assert parse_squeue("") == {}


def test_scontrol_and_sacct_are_read() -> None:
    told = (
        f"JobId=12 JobName={NAME} UserId=me(1) JobState=FAILED Reason=NonZeroExitCode ExitCode=3:0 "
        "TimeLimit=04:00:00 NodeList=node[1-2] BatchHost=node1 StdOut=/x\n"
    )
    assert parse_scontrol(told)[NAME] == Job("12", "FAILED", "NonZeroExitCode", "node1", "04:00:00", NAME, 3)
    row = f"12|CANCELLED by 0|None|node[3-4]|04:00:00|0:9|{NAME}\n"
    assert parse_sacct(row)[NAME] == Job("12", "CANCELLED", "None", "node3", "04:00:00", NAME, 137)
    assert parse_elsewhere(f"{told}=sacct 0\n{row}")[NAME].state == "FAILED"
    assert parse_elsewhere("=sacct 0\n") == {}
    assert parse_sacct("") == {}


def test_only_numbers_reach_a_command_line() -> None:
    assert "; rm" not in ask_elsewhere_command(["12", "13; rm -rf /"])


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("12\n", "12"),
        ("12;alpha\n", "12"),
        ("sbatch: a note\n12\n", "12"),
        ("", None),
        ("\n", None),
        ("Submitted batch job\n", None),
    ],
)
def test_what_sbatch_answers(text: str, number: str | None) -> None:
    assert parse_reply(text) == number


def test_an_answer_about_several_services() -> None:
    other = ID.replace("6f", "70")
    answer = parse_answer(
        f"motd\n=squeue 0\n{RUNNING}=files {ID}\nhere\nexit 143 SIGTERM\n"
        f'address {{"node": "n", "port": 5}}\n=files {other}\n'
    )
    assert answer.fault is None
    assert answer.jobs[NAME].state == "RUNNING"
    assert answer.left == {ID: Left(True, 143, True, {"node": "n", "port": 5}), other: NOTHING_LEFT}
    natural = parse_answer(f"=squeue 0\n\n=files {ID}\nhere\nexit 3 \naddress {{half\n")
    assert natural.left[ID] == Left(True, 3, False, None)
    refused = parse_answer(f"=squeue 1\nslurm_load_jobs error: Unable to contact slurm controller\n=files {ID}\nhere\n")
    assert "Unable to contact" in str(refused.fault)
    assert refused.jobs == {}
    assert refused.left[ID].here
    assert parse_answer("").fault is not None


def test_what_is_found() -> None:
    entry = {"job_id": ID, "model_path": "a 'b' ü"}
    fault, jobs, entries = parse_found(
        f"=squeue 0\n{RUNNING}=entry {ID}\n{json.dumps(entry)}\n=entry x\nnot json\n=entry y\n{json.dumps(entry)}\n"
    )
    assert (fault, list(jobs), entries) == (None, [NAME], {ID: entry})
    assert parse_found("=squeue 1\nslurm is down\n")[0] == "slurm is down"
    assert parse_found("")[0] is not None


@given(st.binary(), st.booleans(), st.booleans())
def test_pieces_of_a_log_are_bytes(data: bytes, here: bool, ended: bool) -> None:
    text = f"{'yes' if here else 'no'} {'0' if ended else 'no'} no {len(data)}\n{b64encode(data).decode()}\n"
    piece = parse_log(text)
    assert piece is not None
    assert (piece.here, piece.ended, piece.by_slurm, piece.size, piece.data) == (here, ended, False, len(data), data)


def test_what_is_no_piece_of_a_log() -> None:
    assert parse_log("sh: not found") is None
    assert parse_log("") is None


def test_slurm_s_own_lines_are_shown_when_they_tell_something() -> None:
    lines = [
        "slurmstepd-node1: error: *** JOB 1 ON node1 CANCELLED AT 2026-11-21T13:01:53 ***",
        "slurmstepd: error: *** JOB 2 ON node1 CANCELLED AT 2026-11-21T13:02:10 DUE TO JOB REQUEUE ***",
        "slurmstepd: error: *** JOB 3 ON node1 CANCELLED AT 2026-11-21T13:02:10 DUE TO TIME LIMIT ***",
        "slurmstepd: error: Detected 1 oom_kill event in StepId=4.batch.",
    ]
    assert parse_slurm_log(b64encode("\n".join(lines).encode()).decode()) == lines[2:]
    assert parse_slurm_log("") == []


def test_the_work_folder_of_a_job() -> None:
    assert parse_where(f"/home/me/.moorage/logs/{ID}.slurm.log\n") == "/home/me/.moorage"
    assert parse_where("/home/me/slurm-12.out\n") is None
    assert parse_where("") is None


@pytest.mark.parametrize("workdir", ["/home/me/.moorage", ".moorage"])
def test_a_shell_reads_every_command(workdir: str) -> None:
    place = Place(workdir, ID)
    scripts = [
        submit_command(place),
        ask_command([place, place]),
        ask_elsewhere_command(["1", "2"]),
        cancel_command(place, kill=True, wait_s=1),
        cancel_command("12", kill=False, wait_s=1),
        remove_command(place),
        prepare_command(workdir),
        log_command(place, 7, None),
        log_command(place, 0, 20),
        slurm_log_command(place),
        find_command(workdir),
        whole_path_command(workdir),
        where_command("12"),
    ]
    for script in scripts:
        said = subprocess.run(["sh", "-n"], input=script, capture_output=True, text=True, check=False)
        assert (said.returncode, said.stderr) == (0, ""), script
