"""What `headrace evaluate` and `sweep` show; apart from the commands, because scipy takes a second to import."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tasks.evaluate.judged import Judged
from tasks.evaluate.metrics import Difference, Score, compare, measure
from tasks.evaluate.runs import STAGES, Runs
from tasks.evaluate.sweep import Sweep

Scores = dict[str, dict[str, Score]]  # stage → metric → score

# A difference is significant where chance would give one as large less often than this.
SIGNIFICANT = 0.05
HEADLINE = "nDCG@10"


def scores_of(judged: Judged, runs: Runs) -> Scores:
    """Every stage's metrics."""
    return {stage: measure(judged, runs.stages[stage]) for stage in STAGES}


def regression(before: Scores, after: Scores) -> Difference | None:
    """By how much the final order got significantly worse, if it did."""
    change = compare(before["rerank"][HEADLINE], after["rerank"][HEADLINE])
    return change if change.mean < 0 and change.p < SIGNIFICANT else None


def print_scores(console: Console, judged: Judged, runs: Runs, scores: Scores) -> None:
    """A row a stage, and what each stage adds to the one before."""
    table = Table(*_columns(scores), box=None, pad_edge=False)
    for stage, by_metric in scores.items():
        cells = [_interval(by_metric[HEADLINE])]
        cells += [f"{score.mean:.3f}" for name, score in by_metric.items() if name != HEADLINE]
        table.add_row(stage, *cells)
    console.print(table, highlight=False)
    for first, second in (("bm25", "fusion"), ("vectors", "fusion"), ("fusion", "rerank")):
        console.print(
            f"{second} over {first}: {_said(compare(scores[first][HEADLINE], scores[second][HEADLINE]))}",
            highlight=False,
        )
    took = ", ".join(f"{step} {seconds * 1000:.0f}" for step, seconds in runs.seconds.items())
    console.print(
        f"{len(judged.queries)} queries, generation {runs.generation}, order by {escape(runs.reranker)}; "
        f"ms a query: {took}",
        highlight=False,
    )
    if runs.missing:
        share = len(runs.missing) / len(judged.names)
        console.print(
            f"[yellow]{len(runs.missing)} of {len(judged.names)} judged names ({share:.0%}) are not in the "
            f"store[/yellow], such as {escape(runs.missing[0])}",
            highlight=False,
        )


def print_comparison(console: Console, judged: Judged, before: Scores, after: Scores) -> None:
    """The stages side by side, and the queries that changed most."""
    table = Table(HEADLINE, "baseline", "now", "difference", box=None, pad_edge=False)
    for stage in after:
        old, new = before[stage][HEADLINE], after[stage][HEADLINE]
        table.add_row(stage, f"{old.mean:.3f}", f"{new.mean:.3f}", _said(compare(old, new)))
    console.print(table, highlight=False)
    was, now = before["rerank"][HEADLINE].values, after["rerank"][HEADLINE].values
    ordered = sorted(judged.queries, key=lambda query: now[query] - was[query])
    worst = [query for query in ordered[:10] if now[query] < was[query]]
    best = [query for query in ordered[::-1][:10] if now[query] > was[query]]
    for title, changed in (("worse", worst), ("better", best)):
        for query in changed:
            console.print(
                f"{title}  {was[query]:.2f} → {now[query]:.2f}  {escape(judged.queries[query])}", highlight=False
            )


def print_sweep(console: Console, found: Sweep) -> None:
    """Fusion methods, then pools, then what they say."""
    methods = Table("fusion", "nDCG@10 [95 % interval]", "R@10", "R@50", "R@100", box=None, pad_edge=False)
    best = max(method.ndcg.mean for method in found.methods)
    for method in found.methods:
        recalls = (f"{method.recall[depth]:.3f}" for depth in (10, 50, 100))
        methods.add_row(method.name, _interval(method.ndcg), *recalls, style="bold" if method.ndcg.mean == best else "")
    console.print(methods, highlight=False)
    pools = Table("pool", "recall", "best order", "reranked [95 % interval]", "ms", "", box=None, pad_edge=False)
    for pool in found.pools:
        pools.add_row(
            str(pool.size),
            f"{pool.recall:.3f}",
            f"{pool.ceiling:.3f}",
            _interval(pool.ndcg),
            f"{pool.milliseconds:.0f}",
            "← knee" if pool.size == found.knee else "",
        )
    console.print(f"\nfusion of the settings {_interval(found.fused)}; its pool, ordered by {escape(found.reranker)}:")
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


def _interval(score: Score) -> str:
    return f"{score.mean:.3f} [{score.low:.3f}, {score.high:.3f}]"


def _columns(scores: Scores) -> list[str]:
    metrics = [name for name in next(iter(scores.values())) if name != HEADLINE]
    return ["stage", f"{HEADLINE} [95 % interval]", *metrics]


def _said(change: Difference) -> str:
    weight = "" if change.p < SIGNIFICANT else ", may be chance"
    return f"{change.mean:+.3f} (p = {change.p:.3f}{weight})"
