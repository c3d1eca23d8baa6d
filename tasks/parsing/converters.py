"""Formats that another program reads best: org and rtf and odt through pandoc, doc and ppt through LibreOffice.

They get a folder of their own, no more time or memory than the worker, and die with it.
"""

from __future__ import annotations

import ctypes
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from schemas.errors import ParseFailed
from schemas.records import Element
from tasks.parsing.html import deepened, html_elements
from tasks.parsing.reading import Reading

PR_SET_PDEATHSIG = 1
_ROW = re.compile(rb"(\\row\b)(?!\s*(?:\\trowd|\}))")


def read_org(path: Path) -> Reading:
    """A file of Emacs' Org mode."""
    return _through_pandoc(path, "org")


def read_rtf(path: Path) -> Reading:
    """A file of rich text."""
    # a row keeps the definition of the last one; pandoc wants one for each, and runs the rows together
    return _through_pandoc(path, "rtf", lambda data: _ROW.sub(rb"\1\\trowd ", data))


def read_odt(path: Path) -> Reading:
    """An OpenDocument text."""
    return _through_pandoc(path, "odt")


def _through_pandoc(path: Path, pandoc_format: str, prepare: Callable[[bytes], bytes] = bytes) -> Reading:
    import pypandoc

    # --sandbox: it opens no other file and no connection, whatever the document includes
    options = ["--sandbox", "--standalone", "--to=html5", "--mathjax", "--wrap=none", f"--from={pandoc_format}"]
    html = _run([pypandoc.get_pandoc_path(), *options], "pandoc", prepare(path.read_bytes()))
    elements, title = html_elements(html.decode("utf-8", "replace"))
    title = "" if title == "-" else title  # pandoc's stopgap
    if title and elements and elements[0] == Element(title, "Title", 0):
        elements[1:] = deepened(elements[1:])
    return Reading(elements, title)


@contextmanager
def converted_by_libreoffice(path: Path, suffix: str) -> Iterator[Path]:
    """A copy of a .doc or .ppt file as .docx or .pptx. Raises ParseFailed (`needs-converter`, `malformed`)."""
    to = f"{suffix.removeprefix('.')}x"
    program = shutil.which("soffice") or shutil.which("libreoffice")
    if program is None:
        advice = f"{suffix} needs LibreOffice's soffice on the PATH, or save it as .{to}"
        raise ParseFailed("needs-converter", advice)
    with tempfile.TemporaryDirectory(prefix="headrace-") as folder:
        # a profile of its own: LibreOffice refuses to run twice on one
        profile = f"-env:UserInstallation={(Path(folder) / 'profile').as_uri()}"
        options = [profile, "--headless", "--norestore", "--convert-to", to, "--outdir", folder]
        source = Path(folder) / f"source{suffix}"
        shutil.copyfile(path, source)
        _run([program, *options, str(source)], "LibreOffice")
        result = source.with_suffix(f".{to}")
        if not result.exists():
            raise ParseFailed("malformed", "LibreOffice cannot read it")
        yield result


def _run(command: list[str], name: str, data: bytes = b"") -> bytes:
    done = subprocess.run(command, input=data, capture_output=True, check=False, preexec_fn=_die_with_worker)
    if done.returncode:
        said = " ".join(done.stderr.decode("utf-8", "replace").split())[:200]
        if done.returncode in {-signal.SIGKILL, -signal.SIGABRT, 251} or "memory" in said or "heap" in said:
            raise MemoryError(said)
        raise ParseFailed("malformed", f"{name} cannot read it: {said or f'exit code {done.returncode}'}")
    return done.stdout


def _die_with_worker() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
