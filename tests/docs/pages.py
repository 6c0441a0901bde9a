"""Reads the pages of the documentation: fenced blocks, the commands in them, headings and links.

A fence's info string is a language and tags, `key=value` with quotes as in a shell:

    ```toml file=duende.toml       written into the page's folder before what follows is run
    ```console                     lines with `$ ` are run, the others are the output to expect
    ```console exit=3              the exit code of the block's last command; 0 where nothing is said
    ```console skip="needs root"   not run, for this reason

In a console block a line `...` stands for any lines, `…` within a line for any text, and a command that is followed by
a line `^C` is interrupted when the output before that line has been seen. A command may go on in lines after a `\\`.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[2]
INTERRUPT = "^C"

_FENCE = re.compile(r"^(?P<indent> *)(?P<fence>`{3,})(?P<info>[^`]*)$")
_LINK = re.compile(r"(?<!!)\[[^\]]*\]\((?P<target>[^)\s]+)\)|!\[[^\]]*\]\((?P<image>[^)\s]+)\)")


@dataclass(frozen=True)
class Command:
    """One command line, what it should print, and how it should end."""

    text: str
    output: tuple[str, ...]
    line: int
    exit_code: int = 0

    @property
    def is_interrupted(self) -> bool:
        return INTERRUPT in self.output


@dataclass(frozen=True)
class Block:
    """One fenced block."""

    language: str
    tags: dict[str, str]
    lines: tuple[str, ...]
    line: int  # of its first line in the page

    @property
    def commands(self) -> list[Command]:
        return list(_commands(self))


@dataclass(frozen=True)
class Page:
    """One Markdown file."""

    path: Path
    blocks: list[Block] = field(default_factory=list)
    prose: list[tuple[int, str]] = field(default_factory=list)  # line number and text outside of blocks

    @property
    def name(self) -> str:
        return str(self.path.relative_to(ROOT))

    def anchors(self) -> set[str]:
        """The fragments that its headings make, as GitHub does it."""
        found: set[str] = set()
        for _, text in self.prose:
            if heading := re.match(r"#{1,6} +(.*)", text):
                base = slug(heading[1])
                number, anchor = 0, base
                while anchor in found:
                    number += 1
                    anchor = f"{base}-{number}"
                found.add(anchor)
        return found

    def links(self) -> Iterator[tuple[int, str]]:
        for line, text in self.prose:
            for match in _LINK.finditer(re.sub(r"`[^`]*`", "``", text)):
                yield line, match["target"] or match["image"]


def slug(heading: str) -> str:
    """A heading's fragment: lower case, punctuation gone, blanks to hyphens."""
    plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "").strip().lower()
    return re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")


def all_pages() -> list[Page]:
    """Every Markdown file of the project that people read."""
    folders = (ROOT / "docs", ROOT / "examples")
    paths = [*ROOT.glob("*.md"), *(path for folder in folders for path in folder.rglob("*.md"))]
    return [read(path) for path in sorted(paths)]


def read(path: Path) -> Page:
    """Split one file into blocks and prose."""
    page = Page(path)
    lines = enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
    for number, line in lines:
        if opening := _FENCE.match(line):
            page.blocks.append(_block(path, opening, number, lines))
        else:
            page.prose.append((number, line))
    return page


def _block(path: Path, opening: re.Match[str], number: int, lines: Iterator[tuple[int, str]]) -> Block:
    """Take the lines up to the closing fence."""
    language, *tags = shlex.split(opening["info"]) or [""]
    inside: list[str] = []
    for _, line in lines:
        if line.strip() == opening["fence"]:
            pairs = (tag.partition("=") for tag in tags)
            return Block(language, {key: value for key, _, value in pairs}, tuple(inside), number + 1)
        inside.append(line.removeprefix(opening["indent"]))
    raise AssertionError(f"{path}:{number}: the block is not closed")


def _commands(block: Block) -> Iterator[Command]:
    found: list[tuple[int, list[str], list[str]]] = []
    for number, line in enumerate(block.lines, start=block.line):
        if line.startswith("$ "):
            found.append((number, [line[2:]], []))
            continue
        assert found, f"line {number}: a console block starts with a command (`$ …`)"
        _, words, output = found[-1]
        if words[-1].endswith("\\") and not output:
            words.append(line)
        else:
            output.append(line)
    last = int(block.tags.get("exit", "0"))
    for index, (number, words, output) in enumerate(found):
        yield Command("\n".join(words), tuple(output), number, last if index == len(found) - 1 else 0)
