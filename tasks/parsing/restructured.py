"""reStructuredText through docutils, which reads no other file here; Sphinx's directives and roles keep their text."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from docutils import nodes
from docutils.core import publish_parts
from docutils.parsers.rst import Directive, directives, roles

from tasks.parsing.html import html_elements
from tasks.parsing.reading import Reading
from tasks.parsing.text import read_text

_SETTINGS = {
    "file_insertion_enabled": False,
    "raw_enabled": False,
    "_disable_config": True,
    "halt_level": 6,
    "report_level": 6,
    "syntax_highlight": "none",
    "math_output": "LaTeX",
    "embed_stylesheet": False,
    "stylesheet_path": None,
    "line_length_limit": 10_000_000,
    "input_encoding": "unicode",
}
# they name other files
_WITHOUT_TEXT = {"toctree", "index", "literalinclude", "currentmodule", "highlight"}
_TARGET = re.compile(r"\s*<[^<>]*>$|^[~!]")


def read_rst(path: Path) -> Reading:
    """A file of reStructuredText; of a directive that docutils does not know, its argument and its content."""
    _accept_everything()
    parts = publish_parts(read_text(path), writer="html5", settings_overrides=_SETTINGS)
    return Reading(html_elements(parts["html_body"])[0])


class _Options(dict[str, Any]):
    """Accepts any option."""

    def __bool__(self) -> bool:
        return True

    def __missing__(self, _: str) -> Any:
        return lambda value: value


class _Unknown(Directive):  # type: ignore[misc]
    optional_arguments = 1
    final_argument_whitespace = True
    has_content = True
    option_spec = _Options()

    def run(self) -> list[nodes.Node]:
        if self.name in _WITHOUT_TEXT:
            return []
        container = nodes.container()
        if self.arguments:
            container += nodes.paragraph(text=self.arguments[0])
        self.state.nested_parse(self.content, self.content_offset, container)
        return [container]


def _text_role(_name: str, _raw: str, text: str, *_: Any, **__: Any) -> tuple[list[nodes.Node], list[Any]]:
    return [nodes.inline(text=_TARGET.sub("", text))], []


def _accept_everything() -> None:
    """Make docutils' look-ups, which end in an error for what only Sphinx knows, end in the classes above."""
    if getattr(directives.directive, "accepts_everything", False):
        return
    known_directive, known_role = directives.directive, roles.role

    def directive(name: str, language: Any, document: Any) -> tuple[Any, Any]:
        found, messages = known_directive(name, language, document)
        return (found, messages) if found else (_Unknown, [])

    def role(name: str, language: Any, line: int, reporter: Any) -> tuple[Any, Any]:
        found, messages = known_role(name, language, line, reporter)
        return (found, messages) if found else (_text_role, [])

    directive.accepts_everything = True  # type: ignore[attr-defined]
    directives.directive, roles.role = directive, role
