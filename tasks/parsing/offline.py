"""Keep unstructured from the network, and documents from making it go there.

unstructured fetches spaCy's `en_core_web_sm` at first use, for heuristics that tell a sentence from a heading in plain
text. A blank English pipeline with a sentencizer serves them, without part-of-speech tags, at half the time.
"""

from __future__ import annotations

import importlib
import logging
import os
import sys
import warnings
from functools import cache
from typing import Any, cast

from tasks.parsing.limits import beyond_memory_limit


def silence() -> None:
    """Turn unstructured's notices, warnings and usage reports off; before it is imported."""
    warnings.simplefilter("ignore")
    logging.getLogger("unstructured").setLevel(logging.ERROR)
    os.environ |= {"UNSTRUCTURED_DISABLE_NOTICE": "1", "SCARF_NO_ANALYTICS": "true", "DO_NOT_TRACK": "true"}


@cache
def import_unstructured(module: str) -> Any:
    """A module of unstructured, made safe; what imports map does not count as the memory of a document."""
    silence()
    with beyond_memory_limit():
        without_torch = "torch" not in sys.modules
        if without_torch:  # spaCy would import it where it is installed: a second and more, for nothing
            sys.modules["torch"] = cast(Any, None)
        try:
            imported = importlib.import_module(module)
            _use_blank_spacy_model()
        finally:
            if without_torch:
                del sys.modules["torch"]
    return imported


@cache
def _use_blank_spacy_model() -> None:
    """Give unstructured a spaCy pipeline that needs no download."""
    import spacy
    from unstructured.nlp import tokenize

    pipeline = spacy.blank("en")
    pipeline.add_pipe("sentencizer")
    pipeline.max_length = 10_000_000
    tokenize._get_nlp = lambda: pipeline


class NetworkForbidden(Exception):
    """A parser tried to reach the network."""


_NETWORK_EVENTS = {
    "socket.connect",
    "socket.sendto",
    "socket.sendmsg",
    "socket.getaddrinfo",
    "socket.gethostbyname",
    "socket.gethostbyaddr",
}


def forbid_network() -> None:
    """Make every connection of this process fail, for good: a document may name URLs, nobody follows them here.

    An audit hook sees what a replaced `socket.connect` would miss (the C module below it) and cannot be taken off.
    """

    def refuse(event: str, _: tuple[Any, ...]) -> None:
        if event in _NETWORK_EVENTS:
            raise NetworkForbidden("parsing opens no network connections")

    sys.addaudithook(refuse)
