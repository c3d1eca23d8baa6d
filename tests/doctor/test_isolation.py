"""Commands without a network: every attempt is refused, and told."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tasks.doctor import isolation
from tasks.doctor.isolation import Isolated, leave_network, run_isolated
from tasks.doctor.netwatch import recorded, watched

# documentation addresses, RFC 5737 and 3849, and a name that never resolves, RFC 6761
V4 = "import socket; socket.socket().connect(('192.0.2.1', 80))"
V6 = "import socket; socket.socket(socket.AF_INET6).connect(('2001:db8::1', 80))"
DATAGRAM = "import socket; socket.socket(type=socket.SOCK_DGRAM).sendto(b'?', ('192.0.2.1', 53))"
NAME = "import urllib.request; urllib.request.urlopen('http://nowhere.invalid/')"
OLD_NAME = "import socket; socket.gethostbyname('nowhere.invalid')"
WORKER = """
import multiprocessing, socket
def reach():
    socket.socket().connect(("192.0.2.1", 80))
if __name__ == "__main__":
    worker = multiprocessing.get_context("spawn").Process(target=reach)
    worker.start()
    worker.join()
"""
AT_HOME = """
import socket, threading
server = socket.create_server(("127.0.0.1", 0))
threading.Thread(target=server.accept).start()
socket.create_connection(("localhost", server.getsockname()[1])).close()
left, right = socket.socketpair()
left.sendmsg([b"?"])
"""


def python(*arguments: str) -> Isolated:
    return run_isolated([sys.executable, *arguments], {})


def namespace_or_skip(ran: Isolated) -> None:
    if ran.no_namespace:
        pytest.skip(f"no network namespace on this machine: {ran.no_namespace}")


@pytest.mark.parametrize(
    ("code", "attempt"),
    [
        pytest.param(V4, "connect to 192.0.2.1 port 80", id="ipv4"),
        pytest.param(V6, "connect to 2001:db8::1 port 80", id="ipv6"),
        pytest.param(DATAGRAM, "send to 192.0.2.1 port 53", id="datagram"),
        pytest.param(NAME, "resolve nowhere.invalid", id="name"),
        pytest.param(OLD_NAME, "resolve nowhere.invalid", id="gethostbyname"),
    ],
)
def test_attempt_of_python_is_refused_and_named(code: str, attempt: str) -> None:
    ran = python("-c", code)
    assert ran.returncode == 1
    assert "there is no network here" in ran.errors
    assert ran.attempts == (attempt,)


def test_swallowed_and_repeated_attempt_is_told_once() -> None:
    ran = python("-c", f"for _ in range(3):\n try:\n  {V4}\n except OSError: pass")
    assert (ran.returncode, ran.attempts) == (0, ("connect to 192.0.2.1 port 80",))


def test_attempt_of_a_spawned_worker_is_told(tmp_path: Path) -> None:
    script = tmp_path / "parent.py"
    script.write_text(WORKER)
    assert python(str(script)).attempts == ("connect to 192.0.2.1 port 80",)


@pytest.mark.parametrize("code", [V4, DATAGRAM, OLD_NAME], ids=["connect", "datagram", "name"])
def test_attempt_past_the_hook_ends_at_the_kernel_and_is_counted(code: str) -> None:
    """-I leaves the hook out, as a program in another language does."""
    ran = python("-I", "-c", code)
    namespace_or_skip(ran)
    assert ran.returncode == 1
    assert ran.attempts == ()
    assert ran.unrouted > 0


def test_namespace_has_no_interface_that_is_up(tmp_path: Path) -> None:
    ran = python("-I", "-c", "import socket; socket.create_connection(('127.0.0.1', 9))")
    namespace_or_skip(ran)
    assert "unreachable" in ran.errors


def test_files_written_in_the_namespace_belong_to_the_caller(tmp_path: Path) -> None:
    ran = python("-c", f"open({str(tmp_path / 'file')!r}, 'w').write('x')")
    assert (ran.returncode, ran.attempts, ran.unrouted) == (0, (), 0)
    assert (tmp_path / "file").stat().st_uid == os.geteuid()


def test_hook_alone_refuses_what_leaves_the_machine_and_nothing_else(tmp_path: Path) -> None:
    """What is left where the system allows no namespace."""

    def run(code: str) -> int:
        environment = {**os.environ, **watched(tmp_path)}
        return subprocess.run(
            [sys.executable, "-c", code], env=environment, check=False, capture_output=True
        ).returncode

    assert run(AT_HOME) == 0
    assert recorded(tmp_path) == ()
    assert run(V4) == 1
    assert recorded(tmp_path) == ("connect to 192.0.2.1 port 80",)


def test_system_that_forbids_namespaces_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(isolation, "_unshare", lambda flags: errno.EPERM)
    monkeypatch.setattr(sys, "platform", "linux")
    assert leave_network() == "Operation not permitted"


def test_killed_command_has_a_shells_exit_code() -> None:
    assert python("-c", "import os; os.kill(os.getpid(), 9)").returncode == 128 + signal.SIGKILL
