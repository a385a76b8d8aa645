"""Flags of one platform on the command line of all."""

from __future__ import annotations

import argparse

import pytest

from moorage.cli.parser import Parser
from moorage.cli.platform_flags import FLAGS, add_platform_flags, platform_options
from moorage.errors import MoorageError, UsageError
from moorage.launch.platforms import PLATFORMS


def parse(platform: str, *words: str) -> argparse.Namespace:
    parser = Parser("start", "")
    parser.add_argument("--platform")
    add_platform_flags(parser)
    return parser.parse(["--platform", platform, *words])


@pytest.mark.parametrize(
    ("platform", "words", "options"),
    [
        ("local-process", (), {}),
        ("slurm", ("--partition", "gpu", "--time", "4:00:00"), {"partition": "gpu", "time": "4:00:00"}),
        ("slurm", ("--gpus-type=h200", "--ssh-client", "openssh"), {"gpus_type": "h200", "ssh_client": "openssh"}),
        ("kubernetes", ("--as-job", "--access", "node-port"), {"as_job": True, "access": "node-port"}),
        (
            "brev",
            ("--ssh-client", "paramiko", "--instance-id", "box"),
            {"ssh_client": "paramiko", "instance_id": "box"},
        ),
        ("lepton", ("--replicas", "2", "--scale-to-zero", "5m"), {"replicas": 2, "scale_to_zero": 300.0}),
    ],
)
def test_what_was_given_and_nothing_else(platform: str, words: tuple[str, ...], options: dict[str, object]) -> None:
    assert platform_options(parse(platform, *words)) == options


@pytest.mark.parametrize(
    ("platform", "words", "said"),
    [
        ("local-docker", ("--partition", "gpu"), "--partition has no meaning on local-docker"),
        ("lepton", ("--as-job",), "--as-job has no meaning on lepton"),
        ("slurm", ("--partition", ""), "--partition is empty"),
        ("slurm", ("--container", "docker"), "pyxis, oci, none"),
        ("kubernetes", ("--access", "ingress"), "load-balancer, node-port, port-forward, cluster-ip"),
        ("lepton", ("--replicas", "two"), "--replicas"),
        ("lepton", ("--scale-to-zero", "0"), "more than zero"),
    ],
)
def test_what_cannot_be(platform: str, words: tuple[str, ...], said: str) -> None:
    with pytest.raises(UsageError) as caught:
        platform_options(parse(platform, *words))
    assert said in caught.value.message


def test_every_flag_is_of_a_platform_that_exists() -> None:
    assert {name for flag in FLAGS for name in flag.platforms} <= set(PLATFORMS)


@pytest.mark.parametrize("platform", ["lepton", "kubernetes"])
def test_a_port_of_this_machine_only_where_there_is_one(platform: str, state_file: object) -> None:
    import os

    from moorage.launch.plan import StartRequest, choose_host_port, make_plan
    from moorage.launch.plane import Plane

    plane = Plane(os.environ)
    request = StartRequest(network_arch="vllm", model_path="hf_model://a/b", platform=platform, host_port=8100)
    with pytest.raises(MoorageError) as caught:
        choose_host_port(plane, make_plan(plane, request), [], set())
    assert "--host-port has no meaning here" in caught.value.message
