"""Write down and refuse what Python processes try to reach beyond this machine, by an audit hook in each.

In: a folder for the record. Out: the attempts, as "connect to 192.0.2.1 port 80" or "resolve example.com". Python code
only: a C library that opens its own connection raises no audit event (tasks.doctor.isolation catches it).
"""

from __future__ import annotations

import ipaddress
import os
import socket
import sys
from pathlib import Path
from typing import Any

# Audit events of Python's socket module: what they try, and where among their arguments stands with whom.
ATTEMPTS = {
    "socket.connect": ("connect to", 1),
    "socket.sendto": ("send to", 1),
    "socket.sendmsg": ("send to", 1),
    "socket.getaddrinfo": ("resolve", 0),
    "socket.gethostbyname": ("resolve", 0),
    "socket.gethostbyaddr": ("resolve", 0),
}


def watched(folder: Path) -> dict[str, str]:
    """Environment in which every Python process records its attempts in `folder`.

    Python imports `sitecustomize` before anything else, in workers that multiprocessing spawns too.
    """
    log = str(folder / "attempts")
    (folder / "sitecustomize.py").write_text(
        f"from tasks.doctor.netwatch import watch\nwatch({log!r})\n", encoding="utf-8"
    )
    return {"PYTHONPATH": os.pathsep.join([str(folder), *filter(None, sys.path)])}


def recorded(folder: Path) -> tuple[str, ...]:
    """The attempts that processes with the environment `watched(folder)` made, each once."""
    log = folder / "attempts"
    return tuple(dict.fromkeys(log.read_text(encoding="utf-8").splitlines())) if log.is_file() else ()


def watch(log: str) -> None:
    """Append to `log`, and refuse, what this process tries to reach beyond its machine. It cannot be undone."""

    def refuse(event: str, arguments: tuple[Any, ...]) -> None:
        if event in ATTEMPTS and (target := _beyond(event, arguments)):
            attempt = f"{ATTEMPTS[event][0]} {target}"
            with Path(log).open("a", encoding="utf-8") as f:
                f.write(f"{attempt}\n")
            raise PermissionError(f"there is no network here: refused to {attempt}")

    sys.addaudithook(refuse)


def _beyond(event: str, arguments: tuple[Any, ...]) -> str:
    """Whom the event would reach; empty where that is this machine."""
    peer = arguments[ATTEMPTS[event][1]]
    if isinstance(arguments[0], socket.SocketType) and arguments[0].family not in (socket.AF_INET, socket.AF_INET6):
        return ""
    host, port = (peer[0], f" port {peer[1]}") if isinstance(peer, tuple) else (peer, "")
    host = host.decode() if isinstance(host, bytes) else host
    if not host or host == "localhost":
        return ""
    try:
        local = ipaddress.ip_address(host).is_loopback
    except ValueError:
        return f"{host}{port}"
    # an address needs no resolving; whoever asks for it connects next
    return "" if local or event == "socket.getaddrinfo" else f"{host}{port}"
