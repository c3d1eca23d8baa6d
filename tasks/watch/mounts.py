"""Where events do not tell of every change: file systems that other machines write to."""

from __future__ import annotations

import os
import re
from pathlib import Path

from tasks.sources.found import within

MOUNTS = Path("/proc/self/mounts")

# the kernel tells of what is done through this machine's mount, not of what others do; of FUSE's only those that are
# no network would, and polling them costs little
NETWORK = {
    "9p", "afs", "beegfs", "ceph", "cifs", "coda", "davfs", "drvfs", "fakeowner", "gfs2", "gpfs", "lustre", "ncpfs",
    "nfs", "nfs4", "ocfs2", "prl_fs", "smb2", "smb3", "smbfs", "vboxsf", "virtiofs", "vmhgfs",
}  # fmt: skip


def network_file_system(folder: str) -> str | None:
    """The kind of network file system that a folder, or one mounted below it, is on; None where there is none.

    Known on Linux only.
    """
    try:
        lines = MOUNTS.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return None
    real = os.path.realpath(folder)
    kinds = {_unescaped(line.split(" ")[1]): line.split(" ")[2] for line in lines}  # a later mount hides an earlier one
    own = max((mount for mount in kinds if within(real, mount)), key=len, default="/")
    below = [mount for mount in kinds if within(mount, real)]
    found = (kinds[mount] for mount in (own, *below) if mount in kinds)
    return next((kind for kind in found if kind in NETWORK or kind.startswith("fuse.")), None)


def _unescaped(mount: str) -> str:
    """As the kernel writes blanks and backslashes: in octal."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), mount)
