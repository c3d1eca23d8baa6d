"""Errors travel between processes and say whether a retry can help."""

from __future__ import annotations

import errno
import pickle
from concurrent.futures.process import BrokenProcessPool

import pytest
from pebble import ProcessExpired

from schemas import errors
from tasks.retries import patiently


def all_errors() -> list[type[errors.HeadraceError]]:
    found, unseen = [], [errors.HeadraceError]
    while unseen:
        unseen += (kinds := unseen.pop().__subclasses__())
        found += kinds
    return found


def make(kind: type[errors.HeadraceError]) -> errors.HeadraceError:
    return kind("timeout", "it took too long") if kind is errors.ParseFailed else kind("what happened")


@pytest.mark.parametrize("kind", all_errors(), ids=lambda kind: kind.__name__)
def test_error_survives_pickling_and_stands_in_the_tree(kind: type[errors.HeadraceError]) -> None:
    error = make(kind)
    copy = pickle.loads(pickle.dumps(error))
    assert (type(copy), str(copy), vars(copy)) == (type(error), str(error), vars(error))
    assert f" {kind.__name__} " in f"{errors.__doc__} ".replace("\n", " ")


TRANSIENT = {"Overloaded", "QueryTimeout", "RerankerFailed", "ApiUnreachable", "SourceUnreachable", "StoreBusy"}


@pytest.mark.parametrize(
    ("error", "transient"),
    [
        *((make(kind), kind.__name__ in TRANSIENT) for kind in all_errors() if not kind.__subclasses__()),
        (OSError(errno.EIO, "input/output error"), True),
        (OSError(errno.ESTALE, "stale file handle"), True),
        (OSError(errno.EMFILE, "too many open files"), True),
        (OSError(errno.ENETUNREACH, "network is unreachable"), True),
        (ConnectionResetError(), True),
        (TimeoutError(), True),
        (ProcessExpired("abnormal termination"), True),
        (BrokenProcessPool(), True),
        (OSError(errno.ENOSPC, "no space left on device"), False),
        (OSError(errno.EROFS, "read-only file system"), False),
        (OSError(errno.ENAMETOOLONG, "file name too long"), False),
        (FileNotFoundError(), False),
        (FileExistsError(), False),
        (PermissionError(), False),
        (NotADirectoryError(), False),
        (ValueError(), False),
        (MemoryError(), False),
        (KeyboardInterrupt(), False),
    ],
    ids=repr,
)
def test_only_what_can_pass_is_retried(error: BaseException, transient: bool) -> None:
    assert errors.is_transient(error) is transient


@pytest.mark.parametrize(("passes", "tries"), [(True, 3), (False, 1)])
def test_flow_tries_again_what_can_pass_and_at_once_gives_up_on_the_rest(
    passes: bool, tries: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("time.sleep", lambda _: None)
    tried: list[int] = []

    def work() -> str:
        tried.append(1)
        if len(tried) < 3:
            raise errors.StoreBusy("x") if passes else errors.BadSource("x")
        return "done"

    if passes:
        assert patiently(work, 60.0) == "done"
    else:
        with pytest.raises(errors.BadSource):
            patiently(work, 60.0)
    assert len(tried) == tries


def test_flow_without_patience_raises_what_can_pass_too() -> None:
    with pytest.raises(errors.StoreBusy):
        patiently(lambda: (_ for _ in ()).throw(errors.StoreBusy("x")), 0)
