"""All hosts of a run are there, or those that are not are named."""

import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from zoo.config import UserError
from zoo.sharding.roll_call import HostLost, call_roll


@pytest.fixture
def address():
    with socket.socket() as free:
        free.bind(("localhost", 0))
        return f"localhost:{free.getsockname()[1]}"


def outcomes(address, hosts, *, size=4, wait_s=1.0):
    """What each host hears: None where all are there, else the error."""

    def one(host):
        try:
            return call_roll(address, size, host, wait_s)
        except UserError as error:
            return error

    with ThreadPoolExecutor(len(hosts)) as pool:
        return list(pool.map(one, hosts))


def test_all_who_are_expected_come_in_any_order(address):
    late = threading.Timer(0.5, lambda: call_roll(address, 4, 0, 5.0))
    late.start()
    assert outcomes(address, [3, 1, 2], wait_s=5.0) == [None] * 3
    late.join()


def test_every_host_names_those_that_did_not_come(address):
    for error in outcomes(address, [0, 2]):
        assert isinstance(error, HostLost)
        assert error.exit_code == 69
        assert str(error).startswith("hosts 1, 3 of 4 did not come within 1 s: ")
        assert address in str(error)
        assert "\n" not in str(error)


def test_without_host_0_the_others_say_so(address):
    for error in outcomes(address, [1, 3]):
        assert isinstance(error, HostLost)
        assert str(error).startswith("host 0 of 4 did not come within 1 s: ")


def test_a_host_that_left_again_is_missing(address):
    def come_and_go():
        host, port = address.split(":")
        for _ in range(50):
            try:
                with socket.create_connection((host, int(port))) as server:
                    server.sendall(b"zoo 3 1\n")
                    time.sleep(0.2)
                return
            except OSError:
                time.sleep(0.02)

    guest = threading.Thread(target=come_and_go)
    guest.start()
    (error,) = outcomes(address, [0], size=3)
    assert "hosts 1, 2 of 3 did not come" in str(error)
    guest.join()


def test_who_does_not_speak_to_us_is_sent_away(address):
    def stranger():
        host, port = address.split(":")
        for _ in range(50):
            try:
                with socket.create_connection((host, int(port))) as server:
                    server.sendall(b"PRI * HTTP/2.0\r\n\r\n")
                    return server.recv(10)
            except OSError:
                time.sleep(0.02)
        return None

    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(call_roll, address, 2, 0, 20.0)
        assert stranger() == b""
        assert outcomes(address, [1], size=2, wait_s=20.0) == [None]
        assert first.result(20) is None


def test_a_number_counts_once_and_the_size_is_the_same_for_all(address):
    first, *both = outcomes(address, [0, 1, 1], size=3)
    assert "host 2 of 3 did not come" in str(first)
    assert sum("a host 1 is there already" in str(error) for error in both) == 1
    with ThreadPoolExecutor(1) as pool:
        other = pool.submit(outcomes, address, [1], size=5, wait_s=10.0)
        outcomes(address, [0], size=3, wait_s=3.0)
        (error,) = other.result(10)
    assert "host 1 of 5 cannot join: host 0 knows of 3 hosts" in str(error)
    assert error.exit_code == 2


def test_a_port_that_is_in_use_is_named(address):
    with socket.create_server(("", int(address.split(":")[1]))):
        (error,) = outcomes(address, [0])
    assert f"cannot listen at {address}" in str(error)
    assert error.exit_code == 2
