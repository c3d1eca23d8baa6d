"""Keep unstructured from the network, and documents from making it go there.

unstructured fetches spaCy's `en_core_web_sm` at first use, for heuristics that tell a sentence from a heading in plain
text. A blank English pipeline with a sentencizer serves them, without part-of-speech tags, at half the time.
"""

from __future__ import annotations

import logging
import os
import socket
import warnings
from typing import Any, NoReturn


def silence() -> None:
    """Turn unstructured's notices, warnings and usage reports off; before it is imported."""
    warnings.simplefilter("ignore")
    logging.getLogger("unstructured").setLevel(logging.ERROR)
    os.environ |= {"UNSTRUCTURED_DISABLE_NOTICE": "1", "SCARF_NO_ANALYTICS": "true", "DO_NOT_TRACK": "true"}


def use_blank_spacy_model() -> None:
    """Give unstructured a spaCy pipeline that needs no download."""
    import spacy
    from unstructured.nlp import tokenize

    pipeline = spacy.blank("en")
    pipeline.add_pipe("sentencizer")
    pipeline.max_length = 10_000_000
    tokenize._get_nlp = lambda: pipeline


def forbid_network() -> None:
    """Make every connection of this process fail: a document may name URLs, nobody follows them here."""

    def refuse(*_: Any) -> NoReturn:
        raise PermissionError("parsing opens no network connections")

    socket.socket.connect = refuse  # type: ignore[method-assign]
    socket.socket.connect_ex = refuse  # type: ignore[method-assign]
    socket.getaddrinfo = refuse  # type: ignore[assignment]
