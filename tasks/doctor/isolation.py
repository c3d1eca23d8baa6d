"""Run a command where it cannot reach the network, and say whether it tried.

Two nets, one in the other. The outer one is Linux's: a network namespace without a working interface, for the command
and every program that it starts; its kernel counts what found no IPv4 route, whatever language asked (IPv6 fails for
want of an address of one's own, uncounted). The inner one is an audit hook in each Python process of the command
(tasks.doctor.netwatch), so that an attempt has a name even where its error is swallowed. Where the system allows no
namespace the hook stands alone: other programs are then not watched, and `Isolated.no_namespace` says why.

The kernel's counters go with their namespace, hence a process between: it enters, runs the command, and counts.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tasks.doctor.netwatch import recorded, watched

CLONE_NEWUSER = 0x10000000
CLONE_NEWNET = 0x40000000


@dataclass(frozen=True)
class Isolated:
    """How a command fared without a network."""

    returncode: int
    output: str
    errors: str
    no_namespace: str  # why the system gave no namespace; empty where it did
    attempts: tuple[str, ...]  # by Python code, each once, as "connect to 192.0.2.1 port 80"
    unrouted: int  # attempts that got as far as the kernel, of any program; 0 without a namespace


def run_isolated(command: Sequence[str], environment: Mapping[str, str]) -> Isolated:
    """Run `command` to its end without a network; `environment` is added to this process's."""
    with tempfile.TemporaryDirectory(prefix="headrace-isolated-") as folder:
        done = subprocess.run(
            [sys.executable, "-m", "tasks.doctor.isolation", folder, *command],
            env={**os.environ, **environment, **watched(Path(folder))},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        return Isolated(
            returncode=done.returncode,
            output=done.stdout,
            errors=done.stderr,
            attempts=recorded(Path(folder)),
            **json.loads(Path(folder, "report.json").read_text(encoding="utf-8")),
        )


def leave_network() -> str:
    """Move this process, and all that it starts from now on, to an empty network namespace; else say why not."""
    if sys.platform != "linux":
        return "only Linux has network namespaces"
    reason = ""
    # a privileged process keeps its user: the files of others stay within its reach
    for flags in (CLONE_NEWNET, CLONE_NEWUSER | CLONE_NEWNET):
        # tried in a process that may fail: some systems grant the namespace and forbid the user in it
        probe = os.fork()
        if not probe:
            os._exit(_unshare(flags))
        failed = os.waitstatus_to_exitcode(os.waitpid(probe, 0)[1])
        if not failed:
            failed = _unshare(flags)
        if not failed:
            return ""
        # what Linux calls a full device is user.max_net_namespaces or user.max_user_namespaces
        reason = "its limit on namespaces is reached" if failed == errno.ENOSPC else os.strerror(failed)
    return reason


def _unshare(flags: int) -> int:
    """Enter new namespaces, as the user that this process is. Out: 0 or the error number."""
    # os.unshare comes with Python 3.12
    user, group = os.geteuid(), os.getegid()
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(flags):
        return ctypes.get_errno()
    if flags & CLONE_NEWUSER:
        try:
            Path("/proc/self/setgroups").write_text("deny")
            Path("/proc/self/uid_map").write_text(f"{user} {user} 1")
            Path("/proc/self/gid_map").write_text(f"{group} {group} 1")
        except OSError as error:
            return error.errno or 1
    return 0


def _unrouted() -> int:
    """IPv4 packets and connections that this namespace's kernel found no route for."""
    names, values = (
        line.split() for line in Path("/proc/self/net/snmp").read_text().splitlines() if line.startswith("Ip:")
    )
    return int(dict(zip(names, values, strict=True))["OutNoRoutes"])


def main() -> int:
    """Leave the network, run the command, report in the folder: `python -m tasks.doctor.isolation FOLDER COMMAND…`."""
    folder, *command = sys.argv[1:]
    no_namespace = leave_network()
    returncode = subprocess.run(command, check=False).returncode
    report = {"no_namespace": no_namespace, "unrouted": 0 if no_namespace else _unrouted()}
    Path(folder, "report.json").write_text(json.dumps(report), encoding="utf-8")
    return returncode if returncode >= 0 else 128 - returncode  # as shells tell a signal


if __name__ == "__main__":
    sys.exit(main())
