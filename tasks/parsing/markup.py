"""XML of any vocabulary: running text as paragraphs, short fields as `tag: value` lines, titles as headings."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from lxml import etree

from schemas.records import Element
from tasks.parsing.reading import Reading

TITLES = {"title", "head", "heading"}
# A field is shorter; what is longer speaks for itself.
FIELD_CHARACTERS = 100


def read_xml(path: Path) -> Reading:
    """Raises lxml's XMLSyntaxError, also where entities or nesting go beyond what libxml2 deems sane."""
    parser = etree.XMLParser(no_network=True, load_dtd=False, remove_comments=True, remove_pis=True)
    walk = _Walk()
    root = etree.fromstring(path.read_bytes(), parser)
    for event, node in (steps := etree.iterwalk(root, events=("start", "end"))):
        if event == "end":
            walk.level -= 1
        elif _is_leaf(node):
            walk.read(node)
            steps.skip_subtree()
            walk.level += 1
        else:
            if not any(_is_leaf(below) for below in node) or len(walk.fields) > 1:
                walk.flush()
            walk.level += 1
    walk.flush()
    return Reading(walk.elements)


def _is_leaf(node: etree._Element) -> bool:
    """Does it hold running text, whatever is marked up in it?"""
    return len(node) == 0 or bool((node.text or "").strip()) or any((below.tail or "").strip() for below in node)


@dataclass
class _Walk:
    elements: list[Element] = field(default_factory=list)
    fields: list[str] = field(default_factory=list)
    level: int = 0  # elements open

    def read(self, leaf: etree._Element) -> None:
        """Add the text of an element that no other block is in."""
        name = etree.QName(leaf).localname if isinstance(leaf.tag, str) else ""
        text = " ".join("".join(leaf.itertext()).split())
        if not text:
            return
        if name.lower() in TITLES and len(text) <= 2 * FIELD_CHARACTERS:
            self.flush()
            self.elements.append(Element(text, "Title", max(self.level - 1, 0)))
        elif len(text) > FIELD_CHARACTERS:
            self.flush()
            self.elements.append(Element(text, "NarrativeText"))
        else:
            self.fields.append(f"{name}: {text}")

    def flush(self) -> None:
        """End the block of fields under way."""
        if self.fields:
            self.elements.append(Element("\n".join(self.fields), "UncategorizedText"))
            self.fields = []
