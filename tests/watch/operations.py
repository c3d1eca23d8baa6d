"""Random sequences of what people and programs do to a folder of documents, for tests of whoever follows it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

from hypothesis import strategies as st

from tasks.sources.found import within

FOLDERS = ("", "d", "d/e", "f", ".hidden")
NAMES = ("a.md", "b.md", "c.txt", "x.log")
PATHS = tuple(f"{folder}/{name}".lstrip("/") for folder in FOLDERS for name in NAMES)
TEXTS = tuple(f"# Page {n}\n\nText {n} about certificates.\n" for n in range(5))
IGNORES = ("x.log\n", "/d/\n", "*.md\n!a.md\n", "e/\n", "")

# An operation changes a folder, and gives the paths that a system tells of: those that it names, no others.
Operation = Callable[[Path], set[Path]]


def write(name: str, text: str) -> Operation:
    def run(root: Path) -> set[Path]:
        path = root / name
        made = {parent for parent in path.parents if not parent.exists()}
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return {path, *made}

    return run


def save(name: str, text: str) -> Operation:
    """As careful editors do: written aside, then renamed."""

    def run(root: Path) -> set[Path]:
        aside = root / f"{name}~"
        aside.write_text(text)
        return rename(f"{name}~", name)(root)

    return run


def rename(source: str, target: str) -> Operation:
    def run(root: Path) -> set[Path]:
        (root / source).replace(root / target)
        return {root / source, root / target}

    return run


def copy(source: str, target: str) -> Operation:
    def run(root: Path) -> set[Path]:
        if within(os.path.realpath(root / target), os.path.realpath(root / source)):
            raise shutil.Error("into itself")
        if (root / source).is_dir():
            shutil.copytree(root / source, root / target, symlinks=True)
        else:
            shutil.copy2(root / source, root / target)
        return {root / target}

    return run


def delete(name: str) -> Operation:
    def run(root: Path) -> set[Path]:
        path = root / name
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
        return {path}

    return run


def touch(name: str) -> Operation:
    def run(root: Path) -> set[Path]:
        os.utime(root / name)
        return {root / name}

    return run


def link(name: str, target: str) -> Operation:
    def run(root: Path) -> set[Path]:
        (root / name).symlink_to(target)
        return {root / name}

    return run


def done(operation: Operation, root: Path) -> set[Path]:
    """The paths that an operation changed; none where the folder is not such that it can be done."""
    try:
        return operation(root)
    except (OSError, shutil.Error):
        return {path for path in root.rglob("*")}  # half done perhaps


_path, _folder = st.sampled_from(PATHS), st.sampled_from(FOLDERS[1:])
_anything = st.one_of(_path, _folder)
operations = st.one_of(
    st.builds(write, _path, st.sampled_from(TEXTS)),
    st.builds(write, _path, st.sampled_from(TEXTS)),
    st.builds(save, _path, st.sampled_from(TEXTS)),
    st.builds(write, st.sampled_from([".gitignore", "d/.gitignore"]), st.sampled_from(IGNORES)),
    st.builds(delete, st.sampled_from([".gitignore", "d/.gitignore"])),
    st.builds(rename, _path, _path),
    st.builds(rename, _folder, st.sampled_from([*FOLDERS[1:], "g", "d/g"])),
    st.builds(copy, _anything, _anything),
    st.builds(delete, _anything),
    st.builds(touch, _anything),
    st.builds(
        link, st.sampled_from(["l.md", "d/l.md", "a.md"]), st.sampled_from(["a.md", "d/a.md", "e", "../o.md", "l.md"])
    ),
)
