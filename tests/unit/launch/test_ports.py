"""Which host port a service takes."""

from __future__ import annotations

import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moorage.errors import ConflictError
from moorage.launch.ports import check_port, choose_port, has_connections, port_is_free

RANGE = range(8080, 8090)
PORTS = st.sets(st.sampled_from(list(RANGE)))


@given(held=PORTS, tried=PORTS, busy=PORTS)
def test_the_lowest_usable_port_or_an_error_that_says_so(held, tried, busy):
    entries = [{"host_port": port} for port in held] + [{"host_port": None}, {}, {"host_port": True}]
    usable = [port for port in RANGE if port not in held | tried | busy]
    if usable:
        port = choose_port(entries, first=8080, last=8089, is_free=lambda port: port not in busy, tried=tried)
        assert port == usable[0]
    else:
        with pytest.raises(ConflictError) as caught:
            choose_port(entries, first=8080, last=8089, is_free=lambda port: port not in busy, tried=tried)
        assert caught.value.code == "ports_exhausted"
        assert "moor prune" in caught.value.next


def test_a_port_named_by_the_user_that_a_service_holds():
    with pytest.raises(ConflictError, match="id0"):
        check_port(8080, [{"job_id": "id0", "host_port": 8080}], is_free=lambda _port: True)


def test_a_port_named_by_the_user_that_something_else_uses():
    with pytest.raises(ConflictError, match="another program"):
        check_port(8080, [], is_free=lambda _port: False)


@pytest.mark.parametrize("address", ["127.0.0.1", "0.0.0.0"])
def test_a_real_listener_is_seen(address):
    with socket.create_server((address, 0)) as listener:
        assert not port_is_free(listener.getsockname()[1])


def test_a_real_listener_on_ipv6_loopback_is_seen():
    if not socket.has_dualstack_ipv6():
        pytest.skip("no IPv6 on this machine")
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as listener:
        assert not port_is_free(listener.getsockname()[1])


def test_probing_leaves_the_port_free():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    assert port_is_free(port)
    assert port_is_free(port)


@pytest.mark.parametrize("address", ["127.0.0.1", "0.0.0.0"])
def test_a_server_that_has_bound_and_does_not_listen_yet_is_seen(address):
    with socket.socket() as early:
        early.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        early.bind((address, 0))
        assert not port_is_free(early.getsockname()[1])


def test_connections_that_were_closed_just_now_leave_the_port_free():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        client = socket.create_connection(("127.0.0.1", port))
        served, _ = listener.accept()
        served.close()  # the side that closes first keeps the port in TIME_WAIT
        client.close()
    assert port_is_free(port)


@given(port=st.integers(1, 65535), other=st.integers(1, 65535))
def test_connections_are_known_by_their_local_port(port, other):
    table = (
        "  sl  local_address rem_address   st tx_queue\n"
        f"   0: 0100007F:{port:04X} 0100007F:{other:04X} 06 00000000\n"
        f"  10: 00000000000000000000000001000000:1F90 00000000000000000000000001000000:{other:04X} 06 00000000\n"
    )
    assert has_connections(port, table)
    assert has_connections(8080, table)
    assert has_connections(other, table) == (other in (port, 8080))
