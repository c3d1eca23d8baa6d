"""Technical questions that people asked: FAQ pages, headings of documentation that ask, and small Stack Exchange sites.

All are read from git mirrors, named OWNER+NAME, whose licences the model card gives.
"""

from __future__ import annotations

import html
import random
import re
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

from tests.benchmarks.reranker_papers import searched, shown
from tests.benchmarks.reranker_source import Source

DOCUMENTATION = (
    "MicrosoftDocs+WSL", "MicrosoftDocs+azure-aks-docs", "MicrosoftDocs+azure-management-docs",
    "MicrosoftDocs+azure-security-docs", "MicrosoftDocs+dataexplorer-docs", "MicrosoftDocs+terminal",
    "argoproj+argo-cd", "cert-manager+website", "etcd-io+website", "fluxcd+website", "golang+website",
    "kedacore+keda-docs", "kubernetes+autoscaler", "kubernetes+ingress-nginx", "linkerd+website",
    "prometheus+docs", "redis+redis-doc", "velero-io+velero", "vitessio+website",
)  # fmt: skip
SITES = (  # on generative models, quantum computing and artificial intelligence
    ("yu51a5+BigQueryApachePipeline", "Posts.xml"),
    ("Jean-Low+StackERedes", "data/Posts.xml"),
    ("sasiddiqui+confucius", "data/stackexchange/ai.stackexchange.com/Posts.xml"),
)
_HEADING = re.compile(r"^(#{1,6})\s+(.+?)\s*(?:\{#[^}]*\}|#+)?\s*$", re.MULTILINE)
ENGLISH = frozenset("what how why can does is are should which when where will the".split())  # noqa: SIM905
# Answers are so long at least, in characters; a question has so many at most; and of the other sections of pages that
# ask something, this share is taken as rivals.
SHORTEST, MOST_ANSWERS, RIVALS = 80, 3, 0.4


def faqs(mirrors: Path) -> Source:
    """Sections whose heading asks, and pairs of faq.yml pages; other sections of those pages as their rivals."""
    source, asked = Source(), set[str]()
    for name in DOCUMENTATION:
        pages = searched(mirrors / name, r"^#{1,5} .*[?]|^ *- question:", "*.md", "*faq*.yml")
        for path, text in zip(pages, shown(mirrors / name, *pages), strict=True):
            parts = _pairs(text) if path.endswith(".yml") else _sections(text)
            for title, heading, body in parts:
                answer, question = _plain(body), _plain(heading)
                words = question.lower().split()
                if len(answer) < SHORTEST or question.lower() in asked:
                    continue  # an older version of what was there
                asked.add(question.lower())
                if question.endswith("?") and 3 < len(words) < 40 and not ENGLISH.isdisjoint(words):
                    source.ask(question, source.passage(title, answer))
                elif random.random() < RIVALS:
                    source.passage(f"{title} > {question}", answer)
    return source


def forums(mirrors: Path) -> Source:
    """Titles of questions, asked for the answers that readers found good."""
    source = Source(contraries=False)
    for mirror, path in SITES:
        rows = [row.attrib for row in ElementTree.fromstring(shown(mirrors / mirror, path)[0])]
        answers: dict[str, list[tuple[bool, int, str]]] = {}
        accepted = {row["AcceptedAnswerId"] for row in rows if "AcceptedAnswerId" in row}
        for row in rows:
            if row["PostTypeId"] == "2" and (row["Id"] in accepted or int(row["Score"]) > 1):
                text = _plain(re.sub(r"(?s)<pre>.*?</pre>", " ", row["Body"]))
                if len(text) > SHORTEST:
                    answers.setdefault(row["ParentId"], []).append((row["Id"] in accepted, int(row["Score"]), text))
        for row in rows:
            if row["PostTypeId"] == "1" and row["Id"] in answers:
                best = sorted(answers[row["Id"]], reverse=True)[:MOST_ANSWERS]
                source.ask(row["Title"], *(source.passage("", text) for *_, text in best))
    return source


def _sections(text: str) -> Iterator[tuple[str, str, str]]:
    """Title of the page, heading, and what stands below it up to the next that is no deeper."""
    text = re.sub(r"(?ms)^\s*```.*?^\s*```", lambda code: code[0].replace("\n#", "\n "), text)
    front = re.match(r"(?s)\A---\n(.*?)\n---\n", text)
    named = re.search(r"(?m)^title: *[\"']?(.+?)[\"']?$", front[1]) if front else None
    found = list(_HEADING.finditer(text))
    title = named[1] if named else found[0][2] if found else ""
    for at, heading in enumerate(found):
        deeper = (later.start() for later in found[at + 1 :] if len(later[1]) <= len(heading[1]))
        yield title, heading[2], text[heading.end() : next(deeper, len(text))]


def _pairs(text: str) -> Iterator[tuple[str, str, str]]:
    """Title of the page, question and answer, of a faq.yml."""
    named = re.search(r"(?m)^\s*title: *[\"']?(.+?)[\"']?$", text)
    for question, answer in re.findall(
        r"- question: *[|>]?-?(.+?)\n\s*answer: *[|>]?-?(.+?)(?=\n\s*- question:|\n\s*- name:|\Z)", text, re.DOTALL
    ):
        yield (named[1] if named else ""), question, answer


def _plain(text: str) -> str:
    """Without links, images, tags and short codes."""
    text = re.sub(r"!?\[([^\]]*)\](\([^)]*\)|\[[^\]]*\])", r"\1", text)
    text = re.sub(r"(?ms)<!--.*?-->|\{\{.*?\}\}|\{%.*?%\}|</?[a-zA-Z][^>]*>|\[![A-Z]+\]|^:::.*?$|[*`#]+", " ", text)
    return " ".join(html.unescape(text).split())
