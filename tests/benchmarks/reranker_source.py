"""Questions with passages to train a reranker on: how texts are made into them, and what must not be among them."""

from __future__ import annotations

import csv
import random
import re
from dataclasses import dataclass, field

from tasks.evaluate.judged import read_queries
from tests.benchmarks.quality import COLLECTIONS, EVAL, OWN, Documents

# Texts that share so many words in a row are taken for the same.
QUESTION_RUN, PASSAGE_RUN = 8, 13
# Passages are this long at most, in characters: some 200 word pieces; abstracts are, whole.
LONGEST, ABSTRACT = 1000, 1600

_OPPOSITES = [
    ("automatic", "manual"), ("automatically", "manually"), ("increase", "decrease"), ("increases", "decreases"),
    ("enable", "disable"), ("enabled", "disabled"), ("enables", "disables"), ("allow", "deny"), ("allows", "denies"),
    ("with", "without"), ("before", "after"), ("inbound", "outbound"), ("encrypted", "unencrypted"), ("add", "remove"),
    ("public", "private"), ("minimum", "maximum"), ("higher", "lower"), ("more", "less"), ("above", "below"),
    ("start", "stop"), ("starts", "stops"), ("required", "optional"), ("upper", "lower"), ("source", "destination"),
    ("read", "write"), ("reduce", "raise"), ("reduces", "raises"), ("create", "delete"), ("attach", "detach"),
    ("import", "export"), ("upload", "download"), ("scale-out", "scale-in"), ("synchronous", "asynchronous"),
]  # fmt: skip
OPPOSITES = {one: other for pair in _OPPOSITES for one, other in (pair, pair[::-1])}
NEGATIONS = [
    (r"\bcannot\b|\bcan't\b", "can"), (r"\b(do|does|did|is|are|must|can|will|should) not\b", r"\1"),
    (r"\b(doesn't|don't)\b", "does"), (r"\b(is|are|must|can|will|should)\b(?! not)", r"\1 not"),
]  # fmt: skip
PRODUCTS = [
    "Amazon S3", "Amazon RDS", "Amazon ECS", "Amazon EC2", "CloudWatch", "Route 53", "IAM", "Secrets Manager",
    "Auto Scaling", "Aurora", "MySQL", "PostgreSQL", "MariaDB", "Oracle", "SQL Server", "Lambda", "Fargate",
    "CloudTrail", "Linux", "Windows", "Azure", "Kubernetes",
]  # fmt: skip
STOPWORDS = frozenset(
    "a an the of to in for on and or is are be with by as at from that this it its you your can how do i".split()  # noqa: SIM905
)


@dataclass
class Source:
    """Passages, and questions for some of them."""

    contraries: bool = True  # of passages that a question turns on
    longest: int = LONGEST  # of passages, in characters
    documents: Documents = field(default_factory=dict)
    queries: dict[str, str] = field(default_factory=dict)
    gains: dict[str, dict[str, int]] = field(default_factory=dict)

    def ask(self, question: str, *answers: str) -> None:
        """Passages by their ids answer a question."""
        query = f"q{len(self.queries)}"
        self.queries[query] = " ".join(question.split())
        self.gains[query] = dict.fromkeys(answers, 1)
        for answer in answers:
            title, text = self.documents[answer]
            if self.contraries and (other := contrary(self.queries[query], text)) is not None:
                self.documents[f"{answer}~{query}"] = (title, other)
                self.gains[query][f"{answer}~{query}"] = 0

    def passage(self, title: str, text: str) -> str:
        """Add one; its id."""
        key = f"p{len(self.documents)}"
        self.documents[key] = (" ".join(title.split()), text.strip()[: self.longest])
        return key

    def without(self, judgements: Judgements) -> Source:
        """What is left without passages and questions that say what the judged sets say."""
        documents = {
            key: (title, text)
            for key, (title, text) in self.documents.items()
            if not (judgements.has_passage(text) or judgements.has_question(title))
        }
        gains = {
            query: {key: gain for key, gain in gains.items() if key in documents}
            for query, gains in self.gains.items()
            if not judgements.has_question(self.queries[query])
        }
        gains = {query: found for query, found in gains.items() if any(found.values())}
        return Source(self.contraries, self.longest, documents, {query: self.queries[query] for query in gains}, gains)


class Judgements:
    """The texts of the judged sets, by runs of words: none of them may be learned from."""

    def __init__(self) -> None:
        sets = [COLLECTIONS[name]() for name in ("cranfield", "scifact", "npl", "anthropic")]
        with (EVAL / "aws_docs_qa" / "QA_true.csv").open(newline="", encoding="utf-8-sig") as f:
            asked = [row["Question"] for row in csv.DictReader(f)]
        for queries in (EVAL / "scifact" / "queries.jsonl", OWN / "queries.jsonl"):  # with those that are not judged
            asked += read_queries(queries).values()
        for judged in sets:
            asked += [*judged.judged.queries.values(), *(title for title, _ in judged.documents.values())]
        self._asked = {run for text in asked for run in _runs(text, QUESTION_RUN)}
        self._told = {run for one in sets for _, text in one.documents.values() for run in _runs(text, PASSAGE_RUN)}

    def has_question(self, text: str) -> bool:
        """A judged query or title shares QUESTION_RUN words in a row with it, or is the same."""
        return not self._asked.isdisjoint(_runs(text, QUESTION_RUN))

    def has_passage(self, text: str) -> bool:
        """A judged passage shares PASSAGE_RUN words in a row with it, or is the same."""
        return not self._told.isdisjoint(_runs(text, PASSAGE_RUN))


def _runs(text: str, length: int) -> set[int]:
    """Hashes of each so many words in a row; of all of them, where they are fewer but at least four."""
    words = re.findall(r"[a-z0-9]+", text.lower())
    return {hash(tuple(words[at : at + length])) for at in range(max(len(words) - length + 1, len(words) > 3))}


def contrary(question: str, text: str) -> str | None:
    """`text` that says the opposite in what the question is about, or None where it turns on no such word."""
    asked = set(re.findall(r"[\w-]+", question.lower()))
    turned = {word for word in OPPOSITES if word in asked and re.search(rf"\b{word}\b", text, re.IGNORECASE)}
    turned -= {"with", "before", "more", "read"} if random.random() < 0.5 else set()
    if turned and random.random() < 0.6:
        words = {word: OPPOSITES[word] for word in turned} | {OPPOSITES[word]: word for word in turned}
        return re.sub(r"[\w-]+", lambda m: words.get(m[0].lower(), m[0]), text)
    named = [name for name in PRODUCTS if name.lower() in question.lower() and name in text]
    if named and random.random() < 0.3:
        other = random.choice([name for name in PRODUCTS if name not in text] or ["MongoDB"])
        return text.replace(named[0], other)
    begins = question.lower().split(" ")[0]
    if (
        asked & {"not", "without"} or begins in {"can", "does", "do", "is", "are", "must", "should"}
    ) and random.random() < 0.5:
        for pattern, instead in NEGATIONS:
            if re.search(pattern, text):
                return re.sub(pattern, instead, text)
    return None


def sentences(text: str) -> list[str]:
    """Plain ones, of eight to thirty words."""
    found = re.split(r"(?<=[.!?])\s+(?=[A-Z])", " ".join(text.split()))
    return [
        s for s in found if 8 <= len(s.split()) <= 30 and s.endswith((".", "?")) and not re.search(r"[|{}<>`=]|://", s)
    ]


def main_words(sentence: str) -> str:
    """Nine of them at most, as one types them into a search box."""
    words = sentence.rstrip(".?").split()
    return " ".join([w.strip(",;:().").lower() for w in words if w.lower() not in STOPWORDS][:9])


def as_query(sentence: str) -> str:
    """A sentence as somebody could search for it: whole, its main words, or its first half."""
    way = random.random()
    words = sentence.rstrip(".").split()
    if way < 0.5:
        return sentence
    if way < 0.8:
        return main_words(sentence)
    return " ".join(words[: max(6, len(words) // 2)])
