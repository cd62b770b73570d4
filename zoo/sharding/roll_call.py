"""Do all hosts of a run exist? Asked before JAX is: it waits for them, but does not say for whom.

Host 0 listens where JAX's coordinator will listen a moment later; the others come, say who they
are, and stay until all are there.
"""

import contextlib
import select
import socket
import time

from zoo.config import UserError

# What host 0 answers, a line: all are here; a reason not to begin; a reason not to take this one.
_ALL_HERE, _ABSENT, _REFUSED = b"zoo go", b"zoo absent ", b"zoo refused "
_RETRY_S = 0.5
_GREETING_S = 2.0  # a greeting follows its connection at once


class HostLost(UserError):
    """Another host did not come, or left: worth starting again, unlike a wrong input."""

    exit_code = 69  # EX_UNAVAILABLE of <sysexits.h>


def call_roll(address: str, size: int, host: int, wait_s: float) -> None:
    """Returns when all hosts of a run have called this.

    Args:
      address: HOST:PORT that host 0 can listen at, and all can reach.
      size: how many hosts there are.
      host: which of them this one is.
      wait_s: how long host 0 waits for the others, and each other one for host 0.

    Raises:
      HostLost: some did not come; the message names them.
      UserError: the port is in use; two hosts have one number, or disagree on how many there are.
    """
    name, port = address.rsplit(":", 1)
    if host == 0:
        _receive(int(port), size, wait_s, address)
    else:
        _appear(name.strip("[]"), int(port), size, host, wait_s)


def _receive(port: int, size: int, wait_s: float, address: str) -> None:
    dual = socket.has_dualstack_ipv6()
    family = socket.AF_INET6 if dual else socket.AF_INET
    try:
        server = socket.create_server(("", port), family=family, dualstack_ipv6=dual, backlog=size)
    except OSError as error:
        raise UserError(
            f"host 0 cannot listen at {address}, where the others look for it ({error.strerror}): "
            "another run may still be there"
        ) from error
    present: dict[int, socket.socket] = {}
    deadline = time.monotonic() + wait_s
    try:
        while len(present) < size - 1:
            left = deadline - time.monotonic()
            ready, _, _ = select.select([server, *present.values()], [], [], max(left, 0))
            for at, guest in list(present.items()):
                if guest in ready:  # nothing more is said here but that it left
                    present.pop(at).close()
            if server in ready:
                guest, _ = server.accept()
                _greet(guest, present, size)
            if left < 0 and len(present) < size - 1:
                problem = _absent(present, size, wait_s, address)
                for guest in present.values():
                    _send(guest, _ABSENT + problem.encode())
                raise HostLost(problem)
        for guest in present.values():
            _send(guest, _ALL_HERE)
    finally:
        for one in (server, *present.values()):
            one.close()


def _greet(guest: socket.socket, present: dict[int, socket.socket], size: int) -> None:
    """Notes who came; sends away who does not belong here, such as a JAX of an earlier run."""
    guest.settimeout(_GREETING_S)
    try:
        word, theirs, at = guest.recv(64).split()
        host = int(at)
        if word != b"zoo":
            raise ValueError
    except (ValueError, OSError):
        guest.close()
        return
    if int(theirs) != size or host in present or not 0 < host < size:
        problem = (
            f"host {host} of {int(theirs)} cannot join: host 0 knows of {size} hosts"
            + (f", and a host {host} is there already" if host in present else "")
            + ". Each host needs its own number and the same count"
        )
        _send(guest, _REFUSED + problem.encode())
        guest.close()
        return
    present[host] = guest


def _send(guest: socket.socket, message: bytes) -> None:
    with contextlib.suppress(OSError):  # it left: whoever notices first says so
        guest.sendall(message + b"\n")


def _absent(present: dict[int, socket.socket], size: int, wait_s: float, address: str) -> str:
    absent = [str(host) for host in range(1, size) if host not in present]
    shown = ", ".join(absent[:8]) + (f" and {len(absent) - 8} more" if len(absent) > 8 else "")
    return (
        f"host{'s' * (len(absent) > 1)} {shown} of {size} did not come within {wait_s:g} s: see "
        f"there whether the same command runs and can reach {address}; $ZOO_JOIN_SECONDS says how "
        "long to wait"
    )


def _appear(name: str, port: int, size: int, host: int, wait_s: float) -> None:
    deadline = time.monotonic() + wait_s
    while time.monotonic() < deadline:
        answer = b""
        with contextlib.suppress(OSError), socket.create_connection((name, port), wait_s) as server:
            server.sendall(b"zoo %d %d\n" % (size, host))
            # Host 0 may have come later, and says who lacks.
            server.settimeout(wait_s + _GREETING_S)
            while b"\n" not in answer and (chunk := server.recv(4096)):
                answer += chunk
        answer = answer.strip()
        if answer == _ALL_HERE:
            return
        for start, error in ((_ABSENT, HostLost), (_REFUSED, UserError)):
            if answer.startswith(start):
                raise error(answer.removeprefix(start).decode())
        time.sleep(_RETRY_S)  # not there yet, or still JAX's coordinator of an earlier run
    raise HostLost(
        f"host 0 of {size} did not come within {wait_s:g} s: see there whether the same command "
        f"runs, and whether host {host} can reach {name}:{port}; $ZOO_JOIN_SECONDS says how long "
        "to wait"
    )
