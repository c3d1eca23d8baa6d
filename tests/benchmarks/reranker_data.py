"""Questions with the passages that answer them, to train the bundled reranker on: stores, judged sets and lists.

    python -m tests.benchmarks.reranker_data FOLDER [MIRRORS [GROUP …]]
        → FOLDER/<source>/{store,queries.jsonl,qrels.tsv,lists.parquet}, FOLDER/lists.parquet

Reads ../shared/train and ../shared/corpora/aws, and, below MIRRORS, git mirrors of further documentation, papers and
test collections. Kinds of questions: people's own; claims and summaries of papers, asked for the abstract; titles,
headings and key words, asked for the text without them; and sentences lifted out of a passage, asked for what is left
of it. Some passages of documentation get a contrary, judged as not relevant: the text with a direction, a negation or
the names of two products turned round, so that the model reads more than the topic.

Nothing of ../shared/eval, and no page that a question of tests/data/aws or of aws_docs_qa is about, is asked for; what
other sources hold of the judged texts is left out (`Judgements`). GROUPs are names of `groups`: by default all of them.
FOLDER/lists.parquet is what the bundled reranker learned from: some of the lists of each source, `LEARNED`.
"""

from __future__ import annotations

import csv
import json
import random
import re
import sys
import tarfile
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console

from flows.local import local_refresh
from schemas.records import LISTS
from schemas.settings import Settings
from tasks.evaluate.judged import read_judged, read_qrels
from tasks.store.reader import Reader
from tasks.training.lists import mine
from tests.benchmarks.quality import EVAL, OWN, SHARED, publish_whole
from tests.benchmarks.reranker_faqs import faqs, forums
from tests.benchmarks.reranker_papers import glasgow, scitldr, searched, shown, trials
from tests.benchmarks.reranker_source import LONGEST, STOPWORDS, Judgements, Source, as_query, sentences

TRAIN = SHARED / "train"
NEGATIVES = 5
# of a query that has many answers, as those of test collections
LISTS_A_QUERY = 4
# So many lists of a source are learned from at most, and of a list so many passages: what people ask in many ways, and
# collections whose questions have many answers, count for more than what was made by rule.
LEARNED = {
    "wikipedia": 3240, "cacm": 2500, "scitldr": 2380, "squad": 2110, "covid": 1730, "medquad": 1680, "pubmed": 1500,
    "trials": 1400, "faqs": 1330, "aws-sentences": 1290, "cisi": 710, "policies": 410, "med": 310, "adi": 160,
}  # fmt: skip
PASSAGES = 5


class Headings:
    """Turns headings into questions; knows which verbs there are."""

    def __init__(self, texts: Iterator[str]) -> None:
        self._known = Counter(word for text in texts for word in re.findall(r"[a-z]+", text.lower()))

    def question(self, heading: str) -> str | None:
        """None for one that says too little alone."""
        words = heading.split()
        content = [w for w in words if w.lower() not in STOPWORDS]
        if (
            len(content) < 3
            or len(words) > 14
            or re.search(r"(?i)^(step|example|see|note|prereq|next|related)\b", heading)
        ):
            return None
        if heading.endswith("?"):
            return heading
        if words[0].lower().endswith("ing") and len(words) > 2:
            rest = " ".join(words[1:])
            asked = f"{self._base(words[0].lower())} {rest}"
            return random.choice(
                [
                    f"how do I {asked}?",
                    f"how to {asked}",
                    f"I want to {asked}",
                    heading.lower(),
                    f"what is needed to {asked}?",
                    f"can I {asked}?",
                ]
            )
        if words[0].lower() in {"how", "what", "why", "when", "which", "where"}:
            return heading
        return random.choice([heading, heading.lower(), f"what is {heading}?", f"{heading}: how does it work?"])

    def _base(self, gerund: str) -> str:
        stem = gerund.removesuffix("ing")
        forms = [stem, stem + "e"] + ([stem[:-1]] if len(stem) > 2 and stem[-1] == stem[-2] else [])
        return max(forms, key=lambda form: self._known[form])


def _documentation(settings: Settings, skip: set[str], headings: int, lifted: int) -> tuple[Source, Source]:
    """Questions for the sections of an ingested documentation: by heading, and by a lifted sentence."""
    reader = Reader.open(settings.store)
    paths = {row["doc_id"]: row["path"] for row in reader.documents().select(["doc_id", "path"]).to_pylist()}
    rows = [
        row
        for row in reader.chunks_of(paths).select(["doc_id", "title", "headings", "text"]).to_pylist()
        if len(row["text"]) > 200 and len(row["text"]) < 2 * LONGEST
    ]
    free = [row for row in rows if not any(paths[row["doc_id"]].endswith(name) for name in skip)]
    by_heading, by_sentence = Source(), Source()
    makes = Headings(row["text"] for row in rows)
    ids = {id(row): by_heading.passage("", row["text"]) for row in rows}
    sections: dict[tuple[str, str], list[str]] = {}
    for row in free:
        sections.setdefault((row["title"], row["headings"]), []).append(ids[id(row)])
    named = Counter((headings or title).rpartition(" > ")[2] for title, headings in sections)
    candidates = [
        (question, answers)
        for (title, path), answers in sections.items()
        if len(answers) <= 3
        and named[heading := (path or title).rpartition(" > ")[2]] == 1
        and (question := makes.question(heading))
    ]
    for question, answers in random.sample(candidates, min(headings, len(candidates))):
        by_heading.ask(question, *answers)
    some = random.sample(free, min(4 * lifted, len(free)))
    chosen = {id(row) for row in some[:lifted]}
    for row in some:
        title = " > ".join(filter(None, (row["title"], row["headings"])))
        able = sentences(row["text"]) if id(row) in chosen else []
        if not able:
            by_sentence.passage(title, row["text"])
            continue
        sentence = random.choice(able)
        left = " ".join(row["text"].split()).replace(sentence, " ")
        by_sentence.ask(as_query(sentence), by_sentence.passage(title, left))
    return by_heading, by_sentence


def aws(folder: Path) -> dict[str, Source]:
    """The guides, without the pages that judged questions are about."""
    skip = {Path(name).name for name in read_qrels(OWN / "qrels.tsv")} | {
        name.rpartition("/")[2].partition("#")[0]
        for judged in (OWN / "qrels.tsv", EVAL / "aws_docs_qa" / "qrels_derived.tsv")
        for gains in read_qrels(judged).values()
        for name in gains
    }
    settings = _ingested(SHARED / "corpora" / "aws", folder)
    by_heading, by_sentence = _documentation(settings, {f"/{name}" for name in skip}, 3500, 3000)
    return {"aws-headings": by_heading, "aws-sentences": by_sentence}


def mirrored(folder: Path, mirrors: Path) -> dict[str, Source]:
    """Documentation of others: Azure's (CC BY 4.0) and Prometheus' (Apache-2.0)."""
    with tempfile.TemporaryDirectory() as aside:
        for mirror in [*sorted(mirrors.glob("MicrosoftDocs+*")), mirrors / "prometheus+docs"]:
            names = searched(mirror, "^", "*.md")
            for name, source_text in zip(names, shown(mirror, *names), strict=True):
                if len(source_text) >= 500:
                    text = re.sub(r"\A---\n.*?\n---\n", "", source_text, flags=re.DOTALL)
                    page = Path(aside, mirror.name, name)
                    page.parent.mkdir(parents=True, exist_ok=True)
                    page.write_text(re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", text))
        settings = _ingested(Path(aside), folder)
        by_heading, by_sentence = _documentation(settings, set(), 1800, 1200)
    return {"docs-headings": by_heading, "docs-sentences": by_sentence}


def medquad() -> Source:
    """Questions about diseases, with those of one disease as each other's rivals."""
    source = Source()
    with tarfile.open(TRAIN / "medquad_liveqa" / "medquad_xml.tar.xz") as archive:
        pages = [archive.extractfile(member).read() for member in archive if member.name.endswith(".xml")]  # type: ignore[union-attr]
    random.shuffle(pages)
    for page in pages:
        for pair in ElementTree.fromstring(page).iter("QAPair"):
            question, answer = pair.findtext("Question") or "", " ".join((pair.findtext("Answer") or "").split())
            if len(answer) > 100 and len(source.documents) < 8000:
                key = source.passage("", answer)
                if random.random() < 0.4:
                    source.ask(question, key)
    return source


def squad() -> Source:
    """SQuAD's development questions, with three sentences around the one that answers."""
    source = Source()
    for part in ("dev", "test"):
        lines = (TRAIN / "squad_sentences_nqg" / f"src-{part}.txt").read_text().splitlines()
        questions = (TRAIN / "squad_sentences_nqg" / f"tgt-{part}.txt").read_text().splitlines()
        order = list(dict.fromkeys(map(_detokenized, lines)))
        keys = {
            s: source.passage("", " ".join(order[n // 3 * 3 : n // 3 * 3 + 3])) if n % 3 == 0 else ""
            for n, s in enumerate(order)
        }
        block = ""
        for sentence in order:
            block = keys[sentence] = keys[sentence] or block
        for sentence, question in zip(lines, questions, strict=True):
            if random.random() < 0.17:
                source.ask(_detokenized(question), keys[_detokenized(sentence)])
    return source


def _detokenized(text: str) -> str:
    text = text.replace("-lrb-", "(").replace("-rrb-", ")").replace("``", '"').replace("''", '"')
    return re.sub(r"\s+([.,;:?!)%])|(\()\s+", r"\1\2", text).replace(" 's", "'s").strip()


def policies() -> Source:
    """Questions on privacy policies, whose passages are all alike."""
    source = Source()
    for part in ("dev", "test"):
        for policy in json.loads((TRAIN / "policyqa" / f"{part}.json").read_text())["data"]:
            for paragraph in policy["paragraphs"]:
                if len(paragraph["context"]) > 80:
                    key = source.passage(policy["title"], paragraph["context"])
                    if random.random() < 0.4:  # of every policy the same is asked
                        source.ask(f"{random.choice(paragraph['qas'])['question']} {policy['title']}", key)
    return source


def covid() -> Source:
    """Questions on papers, asked for the part that answers; and sentences of papers."""
    source = Source()
    for paper in json.loads((TRAIN / "covid_qa" / "200423_covidQA.json").read_text())["data"]:
        for paragraph in paper["paragraphs"]:
            text = paragraph["context"]
            title = " ".join(text.split("\n")[0].split())[:150]
            parts = [(at, text[at : at + 900]) for at in range(0, min(len(text), 45_000), 800)]
            lifted = {
                at: random.choice(able) for at, part in parts if random.random() < 0.35 and (able := sentences(part))
            }
            keys = {at: source.passage(title, part.replace(lifted.get(at, "\0"), " ")) for at, part in parts}
            for at, sentence in lifted.items():
                source.ask(as_query(sentence), keys[at])
            for qa in paragraph["qas"]:
                at = qa["answers"][0]["answer_start"] // 800 * 800
                if at in keys and at not in lifted:
                    source.ask(qa["question"], keys[at])
    with (TRAIN / "covid_qa" / "faq_200327.tsv").open(newline="", encoding="utf-8") as f:
        for row in csv.DictReader(f, delimiter="\t"):
            if row["lang"] == "en" and len(row["answer"] or "") > 60:
                source.ask(row["question"], source.passage("", " ".join(row["answer"].split())))
    return source


def pubmed() -> Source:
    """Titles that ask, and conclusions, for the abstract without them."""
    source = Source()
    for paper in json.loads((TRAIN / "pubmedqa" / "ori_pqal.json").read_text()).values():
        text = " ".join(paper["CONTEXTS"])
        key = source.passage("", text)
        source.ask(paper["QUESTION"], key)
        if able := sentences(paper["LONG_ANSWER"]):
            source.ask(as_query(random.choice(able)), key)
        if len(text) > 700 and (able := sentences(text[LONGEST:])):
            source.ask(as_query(random.choice(able)), key)
    return source


def wikipedia(mirrors: Path | None) -> Source:
    """Natural questions with their paragraphs (CLAP NQ, QED), and QNLI's with the sentence that answers or does not."""
    source = Source()
    for line in (TRAIN / "clapnq" / "clapnq_dev_answerable.jsonl").read_text().splitlines():
        row = json.loads(line)
        for passage in row["passages"]:
            source.ask(row["input"], source.passage(passage["title"], passage["text"]))
    if mirrors:
        (lines,) = shown(mirrors / "google-research-datasets+QED", "qed-dev.jsonlines")
        for row in map(json.loads, lines.splitlines()):
            source.ask(row["question_text"], source.passage(row["title_text"], row["paragraph_text"]))
    with (TRAIN / "qnli_dev" / "dev.tsv").open(encoding="utf-8") as f:
        for row in csv.DictReader(f, delimiter="\t", quoting=csv.QUOTE_NONE):
            key = source.passage("", row["sentence"])
            if row["label"] == "entailment" and random.random() < 0.6:
                source.ask(row["question"], key)
    return source


def _ingested(folder: Path, into: Path) -> Settings:
    settings = Settings(store=into / f"ingested-{folder.name}")
    if not (settings.store / "CURRENT").exists():
        local_refresh([str(folder)], settings, lambda *_: None)
    return settings


def groups(into: Path, mirrors: Path | None) -> dict[str, Callable[[], dict[str, Source]]]:
    """What there is to read, by name."""
    found: dict[str, Callable[[], dict[str, Source]]] = {
        "pubmed": lambda: {"pubmed": pubmed()},
        "wikipedia": lambda: {"wikipedia": wikipedia(mirrors)},
        "policies": lambda: {"policies": policies()},
        "covid": lambda: {"covid": covid()},
        "squad": lambda: {"squad": squad()},
        "medquad": lambda: {"medquad": medquad()},
        "aws": lambda: aws(into),
    }
    if mirrors:
        found |= {
            "docs": lambda: mirrored(into, mirrors),
            "glasgow": lambda: glasgow(mirrors),
            "scitldr": lambda: {"scitldr": scitldr(mirrors)},
            "trials": lambda: {"trials": trials(mirrors)},
            "faqs": lambda: {"faqs": faqs(mirrors)},
            "forums": lambda: {"forums": forums(mirrors)},
        }
    return found


def write(source: Source, folder: Path) -> None:
    """The store and the judged set of a source; whole, once there is qrels.tsv."""
    publish_whole(source.documents, Settings(store=folder / "store"))
    lines = (json.dumps({"_id": query, "text": text}) for query, text in source.queries.items())
    (folder / "queries.jsonl").write_text("\n".join(lines) + "\n")
    judged = (f"{q}\t0\t{name}\t{gain}" for q, gains in source.gains.items() for name, gain in gains.items())
    (folder / "qrels.tsv").write_text("\n".join(judged) + "\n")


def learned(folder: Path) -> pa.Table:
    """LISTS: the lists to learn from, of the sources in `folder`, in chance's order."""
    chosen = []
    for name, most in LEARNED.items():
        if (lists := folder / name / "lists.parquet").exists():
            rows = pq.read_table(lists).to_pylist()
            chosen += [_shortened(row) for row in random.sample(rows, min(most, len(rows)))]
    random.shuffle(chosen)
    return pa.Table.from_pylist(chosen, schema=LISTS)


def _shortened(row: dict[str, Any]) -> dict[str, Any]:
    """A list with two positives at most and, of its negatives, as many as fit."""
    positive = [i for i, gain in enumerate(row["gains"]) if gain > 0][:2]
    negative = [i for i, gain in enumerate(row["gains"]) if gain <= 0]
    kept = positive + random.sample(negative, min(len(negative), PASSAGES - len(positive)))
    return {"query": row["query"], **{name: [row[name][i] for i in kept] for name in ("passages", "gains", "fusion")}}


def main() -> None:
    """Write every source that is not there yet, and its lists."""
    into, mirrors = Path(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) > 2 else None
    known = groups(into, mirrors)
    judgements = Judgements()
    for group in sys.argv[3:] or known:
        random.seed(7)
        for name, found in known[group]().items():
            source = found if group == "aws" else found.without(judgements)
            folder = into / name
            if not (folder / "qrels.tsv").exists():
                write(source, folder)
            if not (folder / "lists.parquet").exists():
                judged = read_judged(folder / "queries.jsonl", folder / "qrels.tsv")
                lists = mine(judged, Settings(store=folder / "store"), negatives=NEGATIVES, most=LISTS_A_QUERY)
                pq.write_table(lists, folder / "lists.parquet")
            flips = sum("~" in name for name in source.documents)
            Console().print(
                f"{name}: {len(source.documents):,} passages, {flips:,} contraries, {len(source.queries):,} questions, "
                f"{pq.read_metadata(folder / 'lists.parquet').num_rows:,} lists"
            )
    random.seed(7)
    pq.write_table(learned(into), into / "lists.parquet")


if __name__ == "__main__":
    main()
