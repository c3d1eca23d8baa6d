"""Papers: claims, summaries, titles and key words, asked for the abstract; and what people asked old test collections.

All are read from git mirrors, named OWNER+NAME, whose licences the model card gives.
"""

from __future__ import annotations

import csv
import io
import json
import random
import re
import subprocess
from pathlib import Path

from tests.benchmarks.reranker_source import ABSTRACT, Source, as_query, main_words

# Old queries ask for much: a whole paragraph, of which this many words are asked for.
QUERY_WORDS = 60
CLAIMED = frozenset("increases reduces effect compared higher lower with than".split())  # noqa: SIM905


def shown(repository: Path, *paths: str, encoding: str = "utf-8") -> list[str]:
    """Files of a mirror, as last committed; empty, where they are missing. Raises CalledProcessError."""
    command = ["git", "-C", str(repository / "repo"), "cat-file", "--batch"]
    wanted = "".join(f"HEAD:{path}\n" for path in paths).encode()
    out = io.BytesIO(subprocess.run(command, input=wanted, capture_output=True, check=True).stdout)
    found = []
    for _ in paths:
        *_, size = out.readline().split()
        found.append(out.read(int(size)).decode(encoding, errors="replace") if size.isdigit() else "")
        out.read(size.isdigit())  # the line's end
    return found


def searched(repository: Path, pattern: str, *globs: str) -> list[str]:
    """The files of a mirror, as last committed, in which a line has the pattern. Raises CalledProcessError."""
    command = ["git", "-C", str(repository / "repo"), "grep", "-lzE", pattern, "HEAD", "--", *globs]
    names = subprocess.check_output(command, text=True).split("\0")
    return [name.removeprefix("HEAD:") for name in names if name]


def glasgow(mirrors: Path) -> dict[str, Source]:
    """The test collections of Communications of the ACM, of information science (CISI, ADI) and of medicine."""
    computing = mirrors / "philippexian+InformationRetrieval", "cacm/cacm.all", "cacm/query.text", "cacm/qrels.text"
    sources = {"cacm": _collection(*shown(*computing, encoding="latin-1"))}
    for name in ("cisi", "adi", "med"):
        paths = (f"data/{name}/{name.upper()}.{kind}" for kind in ("ALL", "QRY", "REL"))
        sources[name] = _collection(*shown(mirrors / "fabianobie+luppar", *paths, encoding="latin-1"))
    return sources


def _collection(texts: str, queries: str, relevant: str) -> Source:
    """One in SMART's form. Besides its queries: titles and key words of what no query has as relevant."""
    gains: dict[str, list[str]] = {}
    for line in relevant.splitlines():
        query, first, second, *_ = [str(int(float(number))) for number in line.split()]
        gains.setdefault(query, []).append(second if first == "0" else first)
    wanted = {name for names in gains.values() for name in names}
    source, keys = Source(contraries=False, longest=ABSTRACT), {}
    for name, fields in _smart(texts).items():
        text, title = fields.get("W", ""), fields.get("T", "")
        if not title and (parts := re.match(r"(.{20,300}?) \.\s*\n {2}(.+)", text, re.DOTALL)):
            title, text = parts[1], parts[2]  # as the medical ones begin
        text = " ".join(text.split())
        if len(text) < 150 and name not in wanted:
            continue
        asked = name not in wanted and len(title.split()) > 3
        keys[name] = source.passage("" if asked else title, text)
        if asked:
            source.ask(random.choice([title, title.lower(), main_words(title)]), keys[name])
        if len(words := fields.get("K", "").split(",")) > 2 and len(text) > 150:
            source.ask(" ".join(random.sample(words, min(4, len(words)))), keys[name])
    for query, fields in _smart(queries).items():
        names = [keys[name] for name in gains.get(query, []) if name in keys]
        if names and ("T" in fields or "A" not in fields):  # neither for what an author wrote
            text = " ".join((fields.get("T") or fields["W"]).split()[:QUERY_WORDS])
            source.ask(text, *names)
            source.ask(main_words(text), *names)
    return source


def _smart(text: str) -> dict[str, dict[str, str]]:
    """Fields by record and letter, the first of each letter."""
    records = {}
    for record in re.split(r"^\.I\s+", text, flags=re.MULTILINE)[1:]:
        number, _, body = record.partition("\n")
        found = re.findall(r"^\.([A-Z])\s*\n(.*?)(?=^\.[A-Z]\s*$|\Z)", body, re.DOTALL | re.MULTILINE)
        records[str(int(number))] = {letter: value.strip() for letter, value in reversed(found)}
    return records


def scitldr(mirrors: Path) -> Source:
    """Papers on machine learning, asked for by a sentence that sums them up, or by their title."""
    source = Source(contraries=False, longest=ABSTRACT)
    parts = (f"SciTLDR-Data/SciTLDR-A/{part}.jsonl" for part in ("train", "dev", "test"))
    for lines in shown(mirrors / "allenai+scitldr", *parts):
        for line in lines.splitlines():
            paper = json.loads(line)
            title, text = paper["title"], " ".join(paper["source"])
            way = random.random()
            key = source.passage(title if way < 0.7 else "", text)
            if way < 0.6:
                told = random.choice([told for told in paper["target"] if len(told.split()) > 4] or [title])
                source.ask(told if random.random() < 0.6 else as_query(told), key)
            elif way > 0.85:
                source.ask(random.choice([title, title.lower(), main_words(title)]), key)
    return source


def trials(mirrors: Path) -> Source:
    """Clinical trials, asked for by a claim on what was compared, right or not: either is judged by the abstract."""
    repository = mirrors / "jayded+evidence-inference"
    asked: dict[str, list[dict[str, str]]] = {}
    for row in csv.DictReader(io.StringIO(shown(repository, "annotations/prompts_merged.csv")[0])):
        asked.setdefault(row["PMCID"], []).append(row)
    source = Source(contraries=False, longest=ABSTRACT)
    pages = shown(repository, *(f"annotations/abstracts/PMC{number}.abst" for number in asked))
    for rows, page in zip(asked.values(), pages, strict=True):
        title, _, abstract = re.sub(r"\ATITLE[.:]", "", page).partition("ABSTRACT")
        text = " ".join(re.sub(r"(ABSTRACT)?\.?[A-Z][A-Z &/]+[.:]|^[.:]", " ", abstract).split())
        if len(text) < 300:
            continue
        told = set(re.findall(r"[a-z]{4,}", f"{title} {text}".lower()))
        able = [claim for row in rows if (claim := _claim(row)) and _share(claim, told) > 0.8]
        key = source.passage(title, text)
        if able:
            source.ask(random.choice(able), key)
    return source


def _claim(row: dict[str, str]) -> str | None:
    given, instead, on = (" ".join(row[name].split()) for name in ("Intervention", "Comparator", "Outcome"))
    if max(map(len, (given, instead, on))) > 80 or re.search(r"[:;<>=.]|(?i:group)", given + instead + on):
        return None
    versus = random.choice([f" compared with {instead}", "", ""])
    return random.choice(
        [
            f"{given} increases {on}{versus}.",
            f"{given} reduces {on}{versus}.",
            f"{given} has no effect on {on}{versus}.",
            f"{on} is higher with {given} than with {instead}.",
            f"{on} is lower with {given} than with {instead}.",
            f"effect of {given} on {on}".lower(),
            f"{given} {instead} {on}".lower(),
        ]
    )


def _share(claim: str, told: set[str]) -> float:
    """Of the claim's long words, those that are told."""
    words = set(re.findall(r"[a-z]{4,}", claim.lower())) - CLAIMED
    return len(words & told) / max(len(words), 1)
