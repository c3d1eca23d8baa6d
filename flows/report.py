"""An evaluation as one web page that needs nothing else: styles and plots inside, no script, nothing fetched.

Queries, headings and paths come from outside; the template escapes everything, and the page forbids itself (by its
Content-Security-Policy) to run or fetch anything all the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from flows import plots, quality
from tasks.evaluate.comparison import SHOWN, Comparison
from tasks.evaluate.evaluation import Evaluation
from tasks.evaluate.metrics import HEADLINE
from tasks.evaluate.sweep import POOLS, Sweep
from tasks.store.files import write_text

# First answers that are shown of a query.
FIRST_SHOWN = 5


@dataclass(frozen=True)
class ShownAnswer:
    """An answer as the page shows it."""

    folder: str  # below the folder that all have in common, with its slash
    file: str
    headings: str
    gain: int | None  # None: not judged


def write_report(path: Path, evaluation: Evaluation, comparison: Comparison | None, sweep: Sweep | None) -> None:
    """Write the page, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, report_html(evaluation, comparison, sweep))


def report_html(evaluation: Evaluation, comparison: Comparison | None, sweep: Sweep | None) -> str:
    """The page."""
    sides = [evaluation] if comparison is None else [comparison.before, evaluation]
    common = _common_folder([answer.path for side in sides for found in side.answers.values() for answer in found])

    def first_answers(side: Evaluation, query: str) -> list[ShownAnswer]:
        gains = side.judged.gains[query]
        shown = []
        for answer in side.answers[query][:FIRST_SHOWN]:
            folder, slash, file = answer.path.removeprefix(common).rpartition("/")
            shown.append(ShownAnswer(folder + slash, file, answer.headings, gains.get(answer.name)))
        return shown

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"interval": quality.interval, "said": quality.said}
    return environment.get_template("report.html.jinja").render(
        evaluation=evaluation,
        comparison=comparison,
        sweep=sweep,
        verdict=quality.verdict(evaluation, comparison),
        milliseconds=quality.milliseconds(evaluation),
        headline=HEADLINE,
        conditions={name: [side.conditions.get(name, "") for side in sides] for name in evaluation.conditions},
        sweep_candidates=max(POOLS),
        shown=SHOWN,
        first_answers=first_answers,
        common=common,
        stages_plot=plots.stages_plot(evaluation, comparison),
        pools_plot=None if sweep is None else plots.pools_plot(sweep),
    )


def _common_folder(paths: list[str]) -> str:
    """The folder that all paths lie in, with its slash; empty where they have none in common."""
    parts = [path.split("/")[:-1] for path in paths]
    same = 0
    for level in zip(*parts, strict=False):
        if len(set(level)) > 1:
            break
        same += 1
    return "".join(f"{part}/" for part in parts[0][:same]) if parts else ""
