"""What runs in a worker process: its limits first, then one file after the other."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import tempfile
from pathlib import Path

from schemas.records import ParsedDocument
from tasks.parsing import offline
from tasks.parsing.document import parse_file
from tasks.parsing.limits import limit_memory, release_memory

PR_SET_PDEATHSIG = 1


def parse_in_worker(path: Path, languages: str) -> ParsedDocument:
    """Parse one file."""
    release_memory()
    return parse_file(path, languages=languages)


def start_worker(memory_mb: int, parent: int, scratch: str) -> None:
    """Make a fresh worker safe: it leaves interrupts to its parent, ends with it, stays offline and in its memory."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    # parsers chatter; what matters comes back as an exception
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it died before we asked to be told
            os._exit(1)
    tempfile.tempdir = scratch  # a killed worker leaves its files there, where its parent sweeps
    offline.silence()
    offline.forbid_network()
    limit_memory(memory_mb)
