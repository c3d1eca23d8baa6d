"""Errors travel between processes and say whether a retry can help."""

from __future__ import annotations

import pickle

import pytest

from schemas import errors


def all_errors() -> list[type[errors.HeadraceError]]:
    found, unseen = [], [errors.HeadraceError]
    while unseen:
        unseen += (kinds := unseen.pop().__subclasses__())
        found += kinds
    return found


@pytest.mark.parametrize("kind", all_errors(), ids=lambda kind: kind.__name__)
def test_error_survives_pickling_and_stands_in_the_tree(kind: type[errors.HeadraceError]) -> None:
    error = kind("timeout", "it took too long") if kind is errors.ParseFailed else kind("what happened")
    copy = pickle.loads(pickle.dumps(error))
    assert (type(copy), str(copy), vars(copy)) == (type(error), str(error), vars(error))
    assert f" {kind.__name__} " in f"{errors.__doc__} ".replace("\n", " ")


@pytest.mark.parametrize(
    ("error", "transient"),
    [
        (errors.StoreBusy("x"), True),
        (errors.CorruptStore("x"), False),
        (OSError(5, "input/output error"), True),
        (TimeoutError(), True),
        (FileNotFoundError(), False),
        (PermissionError(), False),
        (ValueError(), False),
    ],
)
def test_only_what_can_pass_is_retried(error: Exception, transient: bool) -> None:
    assert errors.is_transient(error) is transient
