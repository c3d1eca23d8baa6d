"""The picture of a run's stage timings, as SVG on a ground of its own: Prefect's interface is light or dark."""

from __future__ import annotations

from schemas.records import RefreshSummary

WIDTH = 640
LEFT, RIGHT, ROW = 80, 90, 26


def timings_plot(summary: RefreshSummary) -> str:
    """A bar of work a stage, and below them the run's time on the clock; stages overlap, so their sum may be more."""
    bars = [*summary.seconds.items(), ("run", summary.elapsed)]
    longest = max(seconds for _, seconds in bars) or 1.0
    height = ROW * len(bars) + 22
    parts = []
    for row, (stage, seconds) in enumerate(bars):
        y, width = 14 + row * ROW, (WIDTH - LEFT - RIGHT) * seconds / longest
        colour = "#6b7280" if stage == "run" else "#2563eb"
        parts.append(f'<text x="{LEFT - 8}" y="{y + 13}" text-anchor="end">{stage}</text>')
        parts.append(
            f'<rect x="{LEFT}" y="{y}" width="{max(width, 1):.1f}" height="{ROW - 8}" rx="2" fill="{colour}"/>'
        )
        parts.append(f'<text x="{LEFT + max(width, 1) + 6:.1f}" y="{y + 13}">{seconds:,.1f} s</text>')
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}" '
        'font-family="system-ui, sans-serif" font-size="13" fill="#111827">'
        f'<rect width="100%" height="100%" fill="#ffffff"/>{"".join(parts)}</svg>'
    )
