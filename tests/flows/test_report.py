"""The page that `headrace evaluate --report` writes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from lxml import etree, html
from typer.testing import CliRunner

from flows.cli import app
from flows.report import report_html
from schemas.errors import BadEvaluation
from schemas.settings import Settings
from tasks.evaluate import evaluation
from tasks.evaluate.comparison import compared
from tasks.evaluate.evaluation import Evaluation, evaluate
from tasks.evaluate.judged import Judged
from tasks.evaluate.metrics import Score
from tests.flows.conftest import ANSWERS, QUERIES

HOSTILE = "<script>alert('x')</script><img src=http://127.0.0.1/x>"
GAINS = {query: {name: 1} for query, name in ANSWERS.items()}


@pytest.fixture(scope="module")
def measured(built: Settings) -> Evaluation:
    """With a query that is no good: it holds markup, and what it should find is not there."""
    judged = Judged({**QUERIES, "bad": HOSTILE}, {**GAINS, "bad": {"<b>nowhere</b>.md": 2, "rate-limit-tiers": 0}})
    return evaluate(judged, built)


def page_of(text: str) -> html.HtmlElement:
    """The page, which is well-formed and neither runs nor fetches anything."""
    parser = html.HTMLParser(encoding="utf-8")
    page = html.document_fromstring(text.encode(), parser=parser)
    errors = [e for e in parser.error_log if e.type != etree.ErrorTypes.HTML_UNKNOWN_TAG]  # it knows HTML 4
    assert not errors, errors
    assert not page.xpath("//script | //iframe | //img | //link | //object | //embed | //form")
    assert not page.xpath("//@src | //@href | //@style | //@*[starts-with(name(), 'on')]")
    (styles,) = page.xpath("//style/text()")
    assert "url(" not in styles
    assert "@import" not in styles
    return page


def words(element: html.HtmlElement) -> str:
    return " ".join(" ".join(element.itertext()).split())


def test_page_holds_the_figures_and_fetches_nothing(measured: Evaluation) -> None:
    page = page_of(report_html(measured, None, None))
    for stage, by_metric in measured.scores.items():
        (row,) = page.xpath(f"//h2[.='Stages']/following-sibling::div[1]//tr[td[1]='{stage}']")
        assert all(f"{score.mean:.3f}" in words(row) for score in by_metric.values())
    assert len(page.xpath("//*[local-name()='svg']//*[local-name()='circle']")) == len(measured.scores)
    assert "default-src 'none'" in page.xpath("//meta[@http-equiv]/@content")[0]
    assert len(page.xpath("//details//tbody/tr")) == len(QUERIES) + 1


def test_queries_and_names_are_escaped(measured: Evaluation) -> None:
    text = report_html(measured, None, None)
    assert "<script" not in text
    assert "<b>nowhere" not in text
    worst = page_of(text).xpath("//article")[0]
    assert worst.xpath("h4/text()") == [HOSTILE]
    assert "<b>nowhere</b>.md bm25 not found · vectors not found · fusion not found · rerank not found" in words(worst)


def test_answers_are_shown_with_path_heading_and_gain(measured: Evaluation) -> None:
    page = page_of(report_html(measured, None, None))
    (article,) = (a for a in page.xpath("//article") if a.xpath("h4/text()") == [QUERIES["tls"]])
    first = words(article.xpath(".//ol/li")[0])
    assert first.startswith("1 rotate-certificates-automatically.md Rotating TLS certificates automatically")
    relevant = words(article.xpath(".//ul/li")[0])
    assert relevant == "1 rotate-certificates-automatically.md bm25 #1 · vectors #1 · fusion #1 · rerank #1"


def test_comparison_shows_both_sides_of_the_queries_that_changed(built: Settings, measured: Evaluation) -> None:
    narrow = evaluate(measured.judged, built.model_copy(update={"text_weight": 0.01, "pool": 1, "candidates": 1}))
    nothing = Score(0.0, 0.0, 0.0, dict.fromkeys(measured.values, 0.0))
    worse = replace(narrow, scores={**narrow.scores, "rerank": {**narrow.scores["rerank"], "nDCG@10": nothing}})
    page = page_of(report_html(worse, compared(measured, worse), None))
    assert page.xpath("//h2[.='Got worst']")
    assert not page.xpath("//h2[.='Got best']")
    articles = page.xpath("//article")
    assert len(articles) == len(QUERIES)
    (tls,) = (a for a in articles if a.xpath("h4/text()") == [QUERIES["tls"]])
    assert [words(h) for h in tls.xpath(".//h5")] == ["baseline", "now"]
    baseline, now = tls.xpath(".//section")
    assert len(baseline.xpath(".//li")) == 5
    assert len(now.xpath(".//li")) < 5
    assert "1.00 → 0.00" in words(tls)
    assert [words(row) for row in page.xpath("//tr[@class='differs']")] == [
        "candidates 100 1",
        "text_weight 1 0.01",
        "pool 50 1",
    ]


def test_kept_evaluation_is_the_same_again(measured: Evaluation, tmp_path: Path) -> None:
    evaluation.write(tmp_path / "new" / "kept.json", measured)
    assert evaluation.read(tmp_path / "new" / "kept.json") == measured
    (tmp_path / "torn.json").write_bytes((tmp_path / "new" / "kept.json").read_bytes()[:100])
    with pytest.raises(BadEvaluation, match=r"torn\.json"):
        evaluation.read(tmp_path / "torn.json")


def test_only_queries_with_the_same_judgements_are_compared(measured: Evaluation) -> None:
    changed = replace(measured, judged=Judged(QUERIES, {**GAINS, "tls": {ANSWERS["tls"]: 2}}))
    assert set(compared(measured, changed).queries) == {"ecs", "vector"}
    with pytest.raises(BadEvaluation, match="no query in common"):
        compared(measured, replace(measured, judged=Judged({"q": "other"}, {"q": {"x": 1}})))


def test_command_writes_report_with_sweep_and_compares_with_what_it_saved(
    built: Settings, judged_files: list[str], tmp_path: Path
) -> None:
    where = [*judged_files, "--store", str(built.store), "--set", f"cache={built.cache}"]
    kept, report = tmp_path / "kept.json", tmp_path / "report.html"
    result = CliRunner().invoke(app, ["evaluate", *where, "--save", str(kept)])
    assert result.exit_code == 0, result.output
    result = CliRunner().invoke(app, ["evaluate", *where, "--baseline", str(kept), "--sweep", "--report", str(report)])
    assert result.exit_code == 0, result.output
    assert "scores, min-max, vectors 0.5" in result.output
    page = page_of(report.read_text())
    assert "no significant change" in words(page.xpath("//p[contains(@class, 'verdict')]")[0])
    knee = page.xpath("//tr[@class='best']/td[contains(., '← knee')]")
    assert len(knee) == 1
    assert len(page.xpath("//*[local-name()='polyline']")) == 4
