"""The report's plots, as SVG that takes its colours from the page.

Drawn here and not by matplotlib: that is an optional extra, which a worker that evaluates on a schedule need not have;
and its SVG has colours of its own, wrong for one of the light and the dark scheme, and outlines instead of text.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

from markupsafe import Markup

from tasks.evaluate.comparison import Comparison
from tasks.evaluate.evaluation import Evaluation
from tasks.evaluate.metrics import HEADLINE
from tasks.evaluate.sweep import Sweep

# Pixels at full size. Narrow, so that the letters stay legible where a phone shrinks the plot to its width.
WIDTH = 480

Scale = Callable[[float], float]  # value → pixel


def stages_plot(evaluation: Evaluation, comparison: Comparison | None) -> Markup:
    """nDCG@10 of each stage with its interval; the baseline's below it, hollow."""
    shown = [("", evaluation)] + ([("old", comparison.before)] if comparison is not None else [])
    scores = [(stage, kind, of.scores[stage][HEADLINE]) for stage in evaluation.scores for kind, of in shown]
    # tenths around what there is: a dot, unlike a bar, needs no zero
    low = math.floor(min(score.low for *_, score in scores) * 10) / 10
    high = max(math.ceil(max(score.high for *_, score in scores) * 10) / 10, low + 0.1)
    x = _linear((low, high), (74, WIDTH - 62))
    step = 22 if comparison is None else 18
    parts, y = [], 20.0
    for stage, kind, score in scores:
        if not kind:
            parts.append(_text(66, y + 4, stage, "end strong"))
        parts.append(_line(x(score.low), y, x(score.high), y, f"interval {kind}"))
        parts.append(f'<circle class="dot {kind}" cx="{x(score.mean):.1f}" cy="{y:.1f}" r="5"/>')
        parts.append(_text(WIDTH - 52, y + 4, f"{score.mean:.3f}", "muted" if kind else ""))
        y += step + (10 if kind == shown[-1][0] else 0)
    bottom = y - 8
    count = round((high - low) * 10)
    ticks = [low + i / 10 for i in range(0, count + 1, 1 if count <= 6 else 2)]
    grid = [_line(x(tick), 6, x(tick), bottom, "grid") for tick in ticks]
    grid += [_text(x(tick), bottom + 16, f"{tick:.1f}", "middle muted") for tick in ticks]
    return _svg(bottom + 24, f"{HEADLINE} of each stage with 95 % intervals", [*grid, *parts])


def pools_plot(found: Sweep) -> Markup:
    """Quality by pool size, the knee marked, and below it the time that reranking takes."""
    sizes = [pool.size for pool in found.pools]
    x = _linear((math.log(min(sizes)), math.log(max(sizes))), (40, WIDTH - 20))
    y = _linear((0, 1), (240, 16))
    slowest = max(pool.milliseconds for pool in found.pools)
    t = _linear((0, slowest), (330, 276))

    def at(size: int) -> float:
        return x(math.log(size))

    def path(values: Iterable[float], kind: str, scale: Scale = y) -> str:
        points = [(at(size), scale(value)) for size, value in zip(sizes, values, strict=True)]
        dots = "".join(f'<circle class="mark {kind}" cx="{px:.1f}" cy="{py:.1f}" r="2.5"/>' for px, py in points)
        return f'<polyline class="{kind}" points="{_points(points)}"/>{dots}'

    band = [(at(pool.size), y(pool.ndcg.low)) for pool in found.pools]
    band += [(at(pool.size), y(pool.ndcg.high)) for pool in found.pools[::-1]]
    parts = []
    for tick in (0, 0.2, 0.4, 0.6, 0.8, 1.0):
        parts += [_line(40, y(tick), WIDTH - 20, y(tick), "grid"), _text(33, y(tick) + 4, f"{tick:.1f}", "end muted")]
    for value in (0, slowest):
        parts += [_line(40, t(value), WIDTH - 20, t(value), "grid")]
        parts += [_text(33, t(value) + 4, f"{value:.0f}", "end muted")]
    parts += [
        _text(44, 270, "ms of reranking", "muted"),
        _line(at(found.knee), 16, at(found.knee), 330, "knee"),
        _text(at(found.knee) + 5, 232, f"knee: {found.knee}", "strong"),
        f'<polygon class="band" points="{_points(band)}"/>',
        _line(40, y(found.fused.mean), WIDTH - 20, y(found.fused.mean), "fused"),
        path((pool.recall for pool in found.pools), "recall"),
        path((pool.ceiling for pool in found.pools), "ceiling"),
        path((pool.ndcg.mean for pool in found.pools), "reranked"),
        path((pool.milliseconds for pool in found.pools), "time", t),
    ]
    parts += [_text(at(size), 348, str(size), "middle muted") for size in sizes]
    return _svg(354, "Recall, nDCG@10 and time of reranking by pool size", parts)


def _linear(domain: tuple[float, float], pixels: tuple[float, float]) -> Scale:
    span = (domain[1] - domain[0]) or 1.0
    return lambda value: pixels[0] + (value - domain[0]) / span * (pixels[1] - pixels[0])


def _points(points: Iterable[tuple[float, float]]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in points)


def _line(x1: float, y1: float, x2: float, y2: float, kind: str) -> str:
    return f'<line class="{kind}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def _text(x: float, y: float, words: str, kind: str) -> str:
    """`words` are figures and names of stages, ours, so they need no escaping."""
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}">{words}</text>'


def _svg(height: float, title: str, parts: list[str]) -> Markup:
    return Markup(f'<svg viewBox="0 0 {WIDTH} {height:.0f}" role="img" aria-label="{title}">{"".join(parts)}</svg>')
