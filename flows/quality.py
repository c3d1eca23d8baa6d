"""What `headrace evaluate` and `sweep` show, and the flow's artifact; flows.report makes the page.

Apart from the commands, because scipy takes a second to import.
"""

from __future__ import annotations

import itertools
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tasks.evaluate.comparison import SHOWN, Comparison
from tasks.evaluate.evaluation import Evaluation
from tasks.evaluate.metrics import HEADLINE, Difference, Score, p_value
from tasks.evaluate.sweep import Sweep


def verdict(evaluation: Evaluation, comparison: Comparison | None) -> str:
    """For example: `nDCG@10 0.606 [0.538, 0.675]; -0.031 (p = 0.004) against pool 50: significantly worse`."""
    measured = f"{HEADLINE} {interval(evaluation.scores['rerank'][HEADLINE])}"
    if comparison is None:
        return measured
    change = comparison.headline
    if not change.significant:
        outcome = "no significant change"
    else:
        outcome = f"significantly {'worse' if comparison.regressed else 'better'}"
    return f"{measured}; {change.mean:+.3f} ({p_value(change)}) against {comparison.baseline}: {outcome}"


def print_all(console: Console, now: Evaluation, comparison: Comparison | None, tried: Sweep | None) -> None:
    """The scores, what changed, and what other settings would give."""
    print_scores(console, now)
    if comparison is not None:
        print_comparison(console, comparison)
    if tried is not None:
        print_sweep(console, tried)


def print_scores(console: Console, evaluation: Evaluation) -> None:
    """A row a stage, and what each stage adds to the one above."""
    table = Table(*_columns(evaluation), box=None, pad_edge=False)
    for stage, by_metric in evaluation.scores.items():
        cells = [interval(by_metric[HEADLINE])]
        cells += [f"{score.mean:.3f}" for name, score in by_metric.items() if name != HEADLINE]
        table.add_row(stage, *cells)
    console.print(table, highlight=False)
    for (stage, above), difference in evaluation.steps.items():
        console.print(f"{stage} over {above}: {said(difference)}", highlight=False)
    console.print(
        f"{len(evaluation.judged.queries)} queries, generation {evaluation.generation}, order by "
        f"{escape(evaluation.reranker)}; ms a query: {milliseconds(evaluation)}",
        highlight=False,
    )
    for reason, queries in itertools.islice(evaluation.fallbacks.items(), SHOWN):
        console.print(f"[yellow]{queries} queries:[/yellow] {escape(reason)}", highlight=False, soft_wrap=True)
    if evaluation.missing:
        missing, judged = len(evaluation.missing), len(evaluation.judged.names)
        console.print(
            f"[yellow]{missing} of {judged} judged names ({missing / judged:.0%}) are not in the store[/yellow], "
            f"such as {escape(evaluation.missing[0])}",
            highlight=False,
        )


def print_comparison(console: Console, comparison: Comparison) -> None:
    """The stages side by side, and the queries that changed most."""
    table = Table(HEADLINE, "baseline", "now", "difference", box=None, pad_edge=False)
    for stage, change in comparison.stages.items():
        table.add_row(stage, f"{change.before:.3f}", f"{change.after:.3f}", said(change.difference))
    console.print(table, highlight=False)
    was, now = comparison.before.values, comparison.after.values
    for title, changed in (("worse", comparison.worse), ("better", comparison.better)):
        for query in changed[:SHOWN]:
            text = escape(comparison.after.judged.queries[query])
            console.print(f"{title}  {was[query]:.2f} → {now[query]:.2f}  {text}", highlight=False)


def evaluation_markdown(evaluation: Evaluation, comparison: Comparison | None, report: Path) -> str:
    """The stages as the Markdown of a Prefect artifact: figures only, the queries are in the report."""
    columns = _columns(evaluation)
    rows = [
        [stage, interval(by[HEADLINE]), *(f"{score.mean:.3f}" for name, score in by.items() if name != HEADLINE)]
        for stage, by in evaluation.scores.items()
    ]
    if comparison is not None:
        columns.append("against the baseline")
        for row in rows:
            row.append(said(comparison.stages[row[0]].difference))
    lines = [columns, ["---", *["---:"] * (len(columns) - 1)], *rows]
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return (
        f"# {verdict(evaluation, comparison)}\n\n{len(evaluation.judged.queries)} queries on store "
        f"`{evaluation.store}`, generation {evaluation.generation}.\n\n{table}\n\nReport: `{report}`\n"
    )


def print_sweep(console: Console, found: Sweep) -> None:
    """Fusion methods, then pools, then what they say."""
    methods = Table("fusion", "nDCG@10 [95 % interval]", "R@10", "R@50", "R@100", box=None, pad_edge=False)
    best = max(method.ndcg.mean for method in found.methods)
    for method in found.methods:
        recalls = (f"{method.recall[depth]:.3f}" for depth in (10, 50, 100))
        methods.add_row(method.name, interval(method.ndcg), *recalls, style="bold" if method.ndcg.mean == best else "")
    console.print(methods, highlight=False)
    pools = Table("pool", "recall", "best order", "reranked [95 % interval]", "ms", "", box=None, pad_edge=False)
    for pool in found.pools:
        pools.add_row(
            str(pool.size),
            f"{pool.recall:.3f}",
            f"{pool.ceiling:.3f}",
            interval(pool.ndcg),
            f"{pool.milliseconds:.0f}",
            "← knee" if pool.size == found.knee else "",
        )
    console.print(f"\nfusion of the settings {interval(found.fused)}; its pool, ordered by {escape(found.reranker)}:")
    console.print(pools, highlight=False)
    for line in found.verdict:
        console.print(f"· {line}", highlight=False)


def draw(found: Sweep, path: Path) -> None:
    """Quality and time by pool size, the knee marked; PNG or SVG by the path's suffix."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    sizes = [pool.size for pool in found.pools]
    figure, quality = pyplot.subplots(figsize=(7, 4.2), layout="constrained")
    quality.plot(sizes, [pool.recall for pool in found.pools], "o-", color="tab:gray", label="recall of the pool")
    quality.plot(sizes, [pool.ceiling for pool in found.pools], "s--", color="tab:green", label="nDCG@10, best order")
    quality.plot(sizes, [pool.ndcg.mean for pool in found.pools], "o-", color="tab:blue", label="nDCG@10, reranked")
    quality.fill_between(
        sizes, [pool.ndcg.low for pool in found.pools], [pool.ndcg.high for pool in found.pools], alpha=0.15
    )
    quality.axhline(found.fused.mean, color="tab:orange", linestyle=":", label="nDCG@10, fusion alone")
    quality.axvline(found.knee, color="black", linewidth=0.8)
    quality.annotate(f"knee: {found.knee}", (found.knee, 0.02), xytext=(4, 0), textcoords="offset points")
    quality.set(xlabel="pool: candidates that the reranker sees", ylim=(0, 1))
    time = quality.twinx()
    time.plot(sizes, [pool.milliseconds for pool in found.pools], "^:", color="tab:red", label="time of reranking")
    time.set(ylabel="ms")
    time.set_ylim(bottom=0)
    lines = [*quality.get_lines()[:4], *time.get_lines()]
    quality.legend(lines, [str(line.get_label()) for line in lines], loc="lower right", fontsize=8)
    figure.savefig(path, dpi=150)
    pyplot.close(figure)


def interval(score: Score) -> str:
    """For example: `0.606 [0.538, 0.675]`."""
    return f"{score.mean:.3f} [{score.low:.3f}, {score.high:.3f}]"


def said(change: Difference) -> str:
    """For example: `+0.019 (p = 0.185, may be chance)`."""
    return f"{change.mean:+.3f} ({p_value(change)}{'' if change.significant else ', may be chance'})"


def milliseconds(evaluation: Evaluation) -> str:
    """For example: `open 0, retrieve 9, fuse 0, rerank 5`."""
    return ", ".join(f"{step} {seconds * 1000:.0f}" for step, seconds in evaluation.seconds.items())


def _columns(evaluation: Evaluation) -> list[str]:
    metrics = [name for name in next(iter(evaluation.scores.values())) if name != HEADLINE]
    return ["stage", f"{HEADLINE} [95 % interval]", *metrics]
