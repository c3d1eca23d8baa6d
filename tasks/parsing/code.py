"""Source code along its functions and classes: a heading for each, then its lines as they stand.

Python's own parser tells Python's; for other languages a definition is a line that starts like one, at the margin or
within something that holds members. Grammars for all of them (tree-sitter-language-pack) are fetched from the network
at first use, which never happens here.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from schemas.records import Element
from tasks.parsing.reading import Reading
from tasks.parsing.text import read_text

LANGUAGES = {
    *(".py", ".pyi", ".go", ".js", ".jsx", ".mjs", ".cjs", ".ts", ".tsx", ".java", ".kt", ".kts", ".scala", ".groovy"),
    *(".c", ".h", ".cc", ".cpp", ".cxx", ".hpp", ".hh", ".cs", ".rs", ".rb", ".php", ".pl", ".pm", ".lua", ".r", ".jl"),
    *(".swift", ".m", ".mm", ".dart", ".ex", ".exs", ".sh", ".bash", ".zsh", ".fish", ".ps1", ".sql", ".tf", ".proto"),
}
# code without functions: blocks are what blank lines leave
CONFIGURATION = {
    *(".yaml", ".yml", ".toml", ".ini", ".cfg", ".conf", ".properties", ".env", ".log", ".css", ".scss", ".less"),
    *(".dockerfile", ".bat", ".cmake", ".mk", ".gradle", ".graphql", ".diff", ".patch", ".tex", ".bib"),
}
SIGNATURE_CHARACTERS = 120
DEEPEST = 5

# a blank line, and then one that starts at the margin
_BLOCK_END = re.compile(r"\n(?:[ \t]*\n)+(?=\S)")
_MODIFIERS = (
    r"(?:(?:export|default|public|private|protected|internal|static|final|abstract|async|sealed|open|override|virtual|"
    r"inline|const|constexpr|unsafe|extern|partial|data|case|suspend|readonly|declare|local|pub(?:\([^)]*\))?)\s+)*"
)
_HOLDER = re.compile(
    rf"\s*{_MODIFIERS}(?:class|interface|trait|impl|struct|enum|union|namespace|module|object|record|protocol|extension|"
    r"defmodule|mod|message|service)\b(?!\s*[=(.,;:])\s*[\w<\"'{]"
)
_FUNCTION = re.compile(
    rf"\s*{_MODIFIERS}(?:"
    r"(?:def|defp|func|function\*?|fn|fun|sub|macro_rules!|type|rpc|resource|data|variable|output|provider)\s+[\w\"'(*$]"
    r"|(?:const|let|var)\s+\w+\s*(?::[^=]+)?=\s*(?:async\s*)?(?:function\b|\([^)]*\)\s*(?::[^=]+)?=>|\w+\s*=>)"
    r"|[\w.$:]+\s*(?:<-|=)\s*function\b"
    r"|(?i:create(?:\s+or\s+replace)?\s+(?:\w+\s+)?(?:table|view|function|procedure|trigger|index|type)\b)"
    r"|[\w-]+\s*\(\)\s*\{"
    r")"
)
# `int main(void) {`, `public List<String> names(int n) throws E {`, `constructor(a) {`: nothing else looks like one
_C_LIKE = re.compile(r"\s*(?:[\w:<>,\[\]*&~?@.]+\s+)*[*&~]*[\w:~]+\s*\([^;{}=]*\)?[^;={}()]*\{?\s*$")
_STATEMENTS = re.compile(
    r"\s*(?:if|else|for|foreach|while|do|switch|case|catch|try|return|throw|new|await|yield|using|lock|elif|when|with|"
    r"package|import|assert|delete|sizeof|super|this|self|print|echo|goto|unless|until|match|select|defer|go|and|or|not"
    r")\b|\s*[#@/*{}().\"'`]"
)
_C_FAMILY = {".c", ".h", ".cc", ".cpp", ".cxx", ".hpp", ".hh", ".cs", ".java", ".m", ".mm", ".dart", ".groovy"}
_METHODS_BARE = _C_FAMILY | {".js", ".jsx", ".mjs", ".cjs", ".ts", ".tsx"}  # members need no keyword
_LEADING = re.compile(r"\s*(?:#(?!include|define|if|endif|pragma|!)|//|/\*|\*|--|@|\[\w|;|%|\"\"\")")


@dataclass(frozen=True)
class Definition:
    """A function, class, or what a language calls them."""

    start: int  # 0-based line, of its decorators or comment
    signature: str
    depth: int  # of what it is defined in


def read_code(path: Path) -> Reading:
    """The definitions of a file of code. Raises ParseFailed (`malformed`) where it is no text."""
    suffix = path.suffix.lower()
    text = read_text(path).expandtabs(4) if suffix != ".go" else read_text(path)
    lines = text.split("\n")
    title = ""
    try:
        module = ast.parse(text) if suffix in {".py", ".pyi"} else None
    except (SyntaxError, ValueError, RecursionError, MemoryError):  # Python 2, or no Python at all
        module = None
    if module:
        found = list(_python(module, lines, 0))
        title = (ast.get_docstring(module) or "").partition("\n")[0]
    else:
        found = list(_by_first_lines(lines, suffix))
    return Reading(list(_elements(lines, found)), title, titled=True)


def read_configuration(path: Path) -> Reading:
    """The blocks of a file of settings, styles or log lines."""
    blocks = _BLOCK_END.split(read_text(path))
    return Reading([Element(block.strip("\n").rstrip(), "CodeSnippet") for block in blocks if block.strip()])


def _elements(lines: list[str], definitions: list[Definition]) -> Iterator[Element]:
    starts = [*(definition.start for definition in definitions), len(lines)]
    yield from _snippets(lines[: starts[0]])
    for definition, end in zip(definitions, starts[1:], strict=True):
        yield Element(definition.signature, "Title", min(definition.depth, DEEPEST))
        yield from _snippets(lines[definition.start : end], whole=True)


def _snippets(lines: list[str], *, whole: bool = False) -> Iterator[Element]:
    text = "\n".join(line.rstrip() for line in lines)
    for block in [text] if whole else _BLOCK_END.split(text):
        if block.strip():
            yield Element(block.strip("\n"), "CodeSnippet")


def _python(node: ast.Module | ast.ClassDef, lines: list[str], depth: int) -> Iterator[Definition]:
    for child in node.body:
        if isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            first = min([child.lineno, *(decorator.lineno for decorator in child.decorator_list)]) - 1
            yield Definition(_with_comment(lines, first), _signature(lines[child.lineno - 1]), depth)
            if isinstance(child, ast.ClassDef):
                yield from _python(child, lines, depth + 1)


def _by_first_lines(lines: list[str], suffix: str) -> Iterator[Definition]:
    holders: list[int] = []  # indentations of what is open and holds members
    function: int | None = None  # indentation of the function that is open
    for n, line in enumerate(lines):
        if not line.strip() or line.lstrip().startswith(("//", "#", "*", "/*", "--")):
            continue
        indent = len(line) - len(line.lstrip())
        closes = line.lstrip()[0] in "})]"
        while holders and (indent < holders[-1] or (indent == holders[-1] and not closes and line.strip() != "{")):
            holders.pop()
        if function is not None and indent <= function and not closes and line.strip() != "{":
            function = None
        if function is not None or (indent > 0 and not holders):
            continue
        holds = bool(_HOLDER.match(line)) and not line.rstrip().endswith(";")
        if holds or _defines(line, suffix, member=bool(holders)):
            yield Definition(_with_comment(lines, n), _signature(line), len(holders))
            if holds:
                holders.append(indent)
            else:
                function = indent


def _defines(line: str, suffix: str, *, member: bool) -> bool:
    if _FUNCTION.match(line):
        return True
    bare = suffix in (_METHODS_BARE if member else _C_FAMILY)
    # "[A-Za-z]…(…)" without a type in front is a call, unless a body follows
    typed = (member and line.rstrip().endswith("{")) or " " in line.split("(", maxsplit=1)[0].strip()
    return bare and typed and not _STATEMENTS.match(line) and bool(_C_LIKE.match(line[:500]))


def _with_comment(lines: list[str], first: int) -> int:
    """The line where the comment or the attributes right above `first` start."""
    while first > 0 and _LEADING.match(lines[first - 1]):
        first -= 1
    return first


def _signature(line: str) -> str:
    return " ".join(line.split()).rstrip("{:(, ").strip()[:SIGNATURE_CHARACTERS] or line.strip()
