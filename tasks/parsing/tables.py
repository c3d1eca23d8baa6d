"""A table's rows as lines, cells apart by ` | `: unstructured's own text of a table runs rows and cells together."""

from __future__ import annotations

import lxml.html


def table_lines(html: str) -> str:
    """The text of an HTML table, one row a line."""
    rows = []
    for row in lxml.html.fragment_fromstring(html, create_parent="div").iter("tr"):
        cells = [" ".join(cell.text_content().split()) for cell in row if cell.tag in ("td", "th")]
        if any(cells):
            rows.append(" | ".join(cells))
    return "\n".join(rows)
