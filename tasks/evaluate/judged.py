"""Judged queries: which documents answer which query, and how well.

Queries: BEIR's `queries.jsonl` (`_id`, `text`), TREC topics (`<num>`, `<title>`), or a line `id<TAB>text` each.
Judgements: TREC qrels (`query 0 document gain`), or BEIR's (`query-id<TAB>corpus-id<TAB>score`, with that header).
A judged name is a document (its URI, its path, the end of its path, its file's name with or without the extension), a
section of one (`name#heading`), or a chunk_id.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

from schemas.errors import BadJudgements

_TOPIC = re.compile(r"<top>(.*?)</top>", re.DOTALL | re.IGNORECASE)
_NUMBER = re.compile(r"<num>\s*(?:Number:)?\s*([^\s<]+)", re.IGNORECASE)
_TITLE = re.compile(r"<title>\s*(?:Topic:)?\s*(.*?)\s*(?=<|\Z)", re.DOTALL | re.IGNORECASE)


@dataclass(frozen=True)
class Judged:
    """Queries with what was judged for them."""

    queries: dict[str, str]  # id → text
    gains: dict[str, dict[str, int]]  # query id → judged name → gain; 0 is judged and not relevant

    @property
    def names(self) -> set[str]:
        """Everything that was judged."""
        return {name for gains in self.gains.values() for name in gains}


def read_judged(queries: Path | None, qrels: Path | None) -> Judged:
    """The queries that have a relevant judgement. Raises BadJudgements, with file and line."""
    if queries is None or qrels is None:
        raise BadJudgements("judged queries are two files: queries, and qrels that say what answers them")
    texts, gains = read_queries(queries), read_qrels(qrels)
    wanted = {query: judged for query, judged in gains.items() if any(gain > 0 for gain in judged.values())}
    missing = sorted(set(wanted) - set(texts))
    if missing:
        raise BadJudgements(f"{queries} lacks {len(missing)} queries that {qrels} judges, such as {missing[0]}")
    if not wanted:
        raise BadJudgements(f"{qrels} judges nothing as relevant")
    return Judged({query: texts[query] for query in wanted}, wanted)


def read_folder(folder: Path) -> Judged:
    """The judged queries of a folder: its one file queries.… and its one qrels.…, in any form. Raises BadJudgements."""
    return read_judged(_only(folder, "queries"), _only(folder, "qrels"))


def read_queries(path: Path) -> dict[str, str]:
    """Queries by id, in the order of the file. Raises BadJudgements."""
    text = _read(path)
    if path.suffix == ".jsonl":
        found = {}
        for n, line in enumerate(text.splitlines(), start=1):
            if line.strip():
                try:
                    row = json.loads(line)
                    found[str(row["_id"])] = str(row["text"])
                except (ValueError, KeyError, TypeError) as error:
                    raise BadJudgements(f'{path}:{n}: expected {{"_id": …, "text": …}}: {error!r}') from error
        return found
    if "<top>" in text.lower():
        return {
            _field(_NUMBER, topic, path): " ".join(_field(_TITLE, topic, path).split())
            for topic in _TOPIC.findall(text)
        }
    found = {}
    for n, line in enumerate(text.splitlines(), start=1):
        if line.strip():
            query, tab, words = line.partition("\t")
            if not tab:
                raise BadJudgements(f"{path}:{n}: expected a query's id, a tab and its text")
            found[query.strip()] = words.strip()
    return found


def read_qrels(path: Path) -> dict[str, dict[str, int]]:
    """Gains by query and judged name. Raises BadJudgements."""
    gains: dict[str, dict[str, int]] = {}
    for n, line in enumerate(_read(path).splitlines(), start=1):
        if not line.strip() or (n == 1 and line.lower().startswith("query-id")):
            continue
        fields = line.split("\t") if "\t" in line else line.split()
        try:
            query, name, gain = fields[0], fields[-2], int(float(fields[-1]))
        except (IndexError, ValueError) as error:
            raise BadJudgements(
                f"{path}:{n}: expected `query 0 document gain` or `query<TAB>document<TAB>gain`"
            ) from error
        if len(fields) not in {3, 4}:
            raise BadJudgements(f"{path}:{n}: {len(fields)} fields, expected 3 or 4")
        gains.setdefault(query.strip(), {})[name.strip()] = gain
    return gains


def read_clicks(path: Path) -> Judged:
    """What was clicked on counts as relevant: a line `query<TAB>document` a click. Raises BadJudgements."""
    gains: dict[str, dict[str, int]] = {}
    for n, line in enumerate(_read(path).splitlines(), start=1):
        if line.strip():
            query, tab, name = line.partition("\t")
            if not (tab and query.strip() and name.strip()):
                raise BadJudgements(f"{path}:{n}: expected a query, a tab and the document that was clicked on")
            gains.setdefault(" ".join(query.split()), {})[name.strip()] = 1
    return Judged({query: query for query in gains}, gains)


def _only(folder: Path, stem: str) -> Path:
    found = sorted(folder.glob(f"{stem}.*"))
    if len(found) != 1:
        raise BadJudgements(
            f"{folder} holds {len(found)} files {stem}.…; a folder of judged queries has one of queries.… and qrels.…; "
            f'make them with: headrace golden add "a question" --into {folder}'
        )
    return found[0]


def _field(pattern: re.Pattern[str], topic: str, path: Path) -> str:
    found = pattern.search(topic)
    if found is None:
        raise BadJudgements(f"{path}: a topic lacks its number or its title")
    return found[1]


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BadJudgements(f"{path} cannot be read: {error}") from error
