"""What a cluster's workers share with the process that ingests: the store and the sources, under the same paths."""

from __future__ import annotations

import platform
from pathlib import Path

from schemas.errors import NotShared


def must_see(folder: Path) -> None:
    """Raises NotShared where this process does not see `folder`, which the process that ingests does."""
    if not folder.exists():
        raise NotShared(
            f"the worker on {platform.node()} does not see {folder}: mount the volume that holds it on every worker "
            "of the cluster, under the same path and writable where it is the store's"
        )
