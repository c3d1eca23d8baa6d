"""Check a store as far as its manifest and its tables tell; `headrace verify` reads every byte."""

from __future__ import annotations

import fcntl
from collections import Counter
from pathlib import Path

from schemas.errors import ModelMismatch
from schemas.settings import Settings
from tasks.doctor.finding import Finding
from tasks.doctor.models import found
from tasks.models import precision
from tasks.status import Quarantined, store_status
from tasks.store import generation as generations
from tasks.store.generation import Analyzer


def store(settings: Settings) -> Finding:
    """Whether the store opens, fits the settings, and is at rest.

    Raises StoreNotFound where it has manifests and no CURRENT, StoreFormat, CorruptStore, ModelNotFound, ModelMismatch.
    """
    folder = settings.store
    if not generations.exists(folder) and not generations.numbers(folder):
        return Finding("ok", f"none at {folder} yet", f"build it: headrace ingest FOLDER --store {folder}")
    status = store_status(folder)
    model = found(settings.embedder, settings)
    if model is not None and status.embedder != (wanted := model.fingerprint(precision(settings))):
        raise ModelMismatch(
            f"{folder} holds vectors of {status.embedder}, the settings ask for {wanted}; "
            "set the store's own embedder, or change its vectors with: headrace migrate --model …"
        )
    writing = held(folder / "lock")
    activity = "an ingest is writing" if writing else "nobody writes"
    facts = [
        f"{folder}: generation {status.generation}, {status.documents:,} documents, {status.chunks:,} chunks, "
        f"{status.segments} segments, {status.bytes / 1e6:,.1f} MB; {activity}",
    ]
    advice = []
    if status.quarantine:
        facts.append(_reasons(status.quarantine))
        advice.append(f"files and reasons: headrace status --store {folder}")
    if generations.read(folder).analyzer != Analyzer(settings.tokenizer, settings.stemmer, settings.stopwords):
        facts.append("BM25's terms are not those of the settings")
        advice.append(f"headrace rebuild --store {folder}")
    if not writing and (left := sum(path.is_dir() for path in folder.glob("staging/*"))):
        facts.append(f"runs that were stopped before their end: {left}")
        advice.append("the same headrace ingest goes on from there")
    if advice:
        return Finding("warning", "\n".join(facts), "\n".join(advice))
    return Finding("ok", "\n".join(facts), f"to check every byte: headrace verify --store {folder}")


def held(lock: Path) -> bool:
    """Whether a live process holds the lock file: the system lets go of a dead one's."""
    if not lock.is_file():
        return False
    with lock.open("rb") as f:
        try:
            fcntl.flock(f, fcntl.LOCK_SH | fcntl.LOCK_NB)  # let go with the file, some microseconds later
        except BlockingIOError:
            return True
    return False


def _reasons(quarantine: tuple[Quarantined, ...]) -> str:
    """For example: `in quarantine: 8 empty, 5 needs-converter`."""
    kinds = Counter(entry.kind for entry in quarantine).most_common()
    return f"in quarantine: {', '.join(f'{n:,} {kind}' for kind, n in kinds)}"
