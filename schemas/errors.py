"""Every error that Headrace raises, typed by whether trying again can help.

    HeadraceError
    ├── TerminalError            the same call fails again until somebody changes something
    │   ├── BadSource            a source is missing, empty or of an unknown form
    │   ├── BadFilter            a filter that no document could pass, or that cannot be understood
    │   ├── BadQuestions         a file of questions to answer cannot be read
    │   ├── BadJudgements        a file of queries or judgements cannot be read
    │   ├── BadEvaluation        a kept evaluation cannot be read
    │   ├── Regression           the answers got significantly worse
    │   ├── TrainingFailed       a model could not be trained
    │   ├── DeleteGuard          a sweep would delete more of the corpus than allowed
    │   ├── ModelNotFound        no such model in a folder, the local cache or the hub
    │   ├── ModelMismatch        a model is not what its files, or the store, say it is
    │   ├── MissingRequirement   an optional package or a key that the settings need is not there
    │   ├── StoreNotFound        there is no store at that path
    │   ├── NoSuchGeneration     a generation that is not, or no longer, kept
    │   ├── StoreFormat          the store was written by another version of Headrace
    │   ├── StoreNotWritable     the disk is full, or the store may not be written
    │   ├── CorruptStore         a file of the store is damaged or missing
    │   ├── NotShared            a worker of a cluster does not see a folder that the flow's process sees
    │   └── ParseFailed          one document cannot be parsed; it goes to quarantine
    └── TransientError           trying again may help
        ├── StoreBusy            another process is writing to the store
        ├── SourceUnreachable    a remote source cannot be listed
        ├── Overloaded           a server has all the queries that it runs at once
        ├── QueryTimeout         a query took longer than a server lets it
        ├── RerankerFailed       a reranker on a server gave no answer that can be used; the order before it stands
        └── ApiUnreachable       the configured Prefect API does not answer

Each message says what happened, to what, and what to do.
"""

from __future__ import annotations

import errno
from concurrent.futures import BrokenExecutor


class HeadraceError(Exception):
    """Base of all errors that Headrace raises on purpose."""


class TerminalError(HeadraceError):
    """Trying again cannot help."""


class TransientError(HeadraceError):
    """Trying again may help."""


class BadSource(TerminalError):
    """A source is missing, empty or of an unknown form."""


class BadFilter(TerminalError):
    """A filter that no document could pass, or that cannot be understood."""


class BadQuestions(TerminalError):
    """A file of questions to answer cannot be read."""


class BadJudgements(TerminalError):
    """A file of queries or judgements cannot be read."""


class BadEvaluation(TerminalError):
    """A kept evaluation cannot be read, or is of other queries."""


class Regression(TerminalError):
    """The answers to judged queries got significantly worse than those of a baseline."""


class TrainingFailed(TerminalError):
    """A model could not be trained."""


class DeleteGuard(TerminalError):
    """A sweep would delete more of the corpus than the settings allow."""


class ModelNotFound(TerminalError):
    """No such model in a folder, the local cache or, where allowed, the hub."""


class ModelMismatch(TerminalError):
    """A model is not what its files, or the store, say it is."""


class MissingRequirement(TerminalError):
    """An optional package or a key that the settings need is not there."""


class StoreNotFound(TerminalError):
    """There is no store at that path."""


class NoSuchGeneration(TerminalError):
    """A generation that is not, or no longer, kept."""


class StoreFormat(TerminalError):
    """The store was written by another version of Headrace."""


class StoreNotWritable(TerminalError):
    """The disk is full, or the store may not be written."""


class CorruptStore(TerminalError):
    """A file of the store is damaged or missing."""


class NotShared(TerminalError):
    """A worker of a cluster does not see a folder that the flow's process sees."""


class ParseFailed(TerminalError):
    """One document cannot be parsed. `kind` is a short constant reason, such as `timeout` or `empty`."""

    def __init__(self, kind: str, detail: str) -> None:
        super().__init__(f"{kind}: {detail}")
        self.kind = kind
        self.detail = detail

    def __reduce__(self) -> tuple[type[ParseFailed], tuple[str, str]]:
        return type(self), (self.kind, self.detail)


class SourceUnreachable(TransientError):
    """A remote source cannot be listed."""


class RerankerFailed(TransientError):
    """A reranker on a server gave no answer that can be used. The message has nothing of a key."""

    def __init__(self, message: str, *, may_pass: bool = True, pause_s: float | None = None) -> None:
        super().__init__(message)
        self.may_pass = may_pass  # asking again at once may help
        self.pause_s = pause_s  # seconds to wait before that, where the server says


class StoreBusy(TransientError):
    """Another process is writing to the store."""


class Overloaded(TransientError):
    """A server has all the queries that it runs at once."""


class QueryTimeout(TransientError):
    """A query took longer than a server lets it."""


class ApiUnreachable(TransientError):
    """The configured Prefect API does not answer."""


# What the system says and says again until somebody changes something: a disk that is full or read only, a name or a
# file that cannot be. Of its other errors (input/output, a reset connection, too many open files) another try may be
# spared.
LASTING = {
    errno.EACCES, errno.EDQUOT, errno.EEXIST, errno.EFBIG, errno.EINVAL, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG,
    errno.ENODEV, errno.ENOENT, errno.ENOSPC, errno.ENOTDIR, errno.ENOTSUP, errno.EPERM, errno.EROFS, errno.EXDEV,
}  # fmt: skip


def is_transient(error: BaseException) -> bool:
    """Whether a retry can help: decided here, once, for every retry in Headrace.

    A worker process that died (of too little memory, perhaps) is tried again too.
    """
    if isinstance(error, HeadraceError):
        return isinstance(error, TransientError)
    if isinstance(
        error, FileNotFoundError | FileExistsError | PermissionError | NotADirectoryError | IsADirectoryError
    ):
        return False
    if isinstance(error, OSError):  # TimeoutError, ConnectionError and pebble's ProcessExpired are such
        return error.errno not in LASTING
    return isinstance(error, BrokenExecutor)


def is_interrupt(error: BaseException) -> bool:
    """Whether it is Ctrl-C: of one that comes during a query DuckDB makes an error of its own."""
    return isinstance(error, KeyboardInterrupt) or (type(error) is RuntimeError and str(error) == "Query interrupted")
