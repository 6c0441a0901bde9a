"""Every command that the documentation shows is run, and says what the page says it does.

The blocks of a page are run in order, in one folder and with one pair of runtime and state directories. Long numbers,
times and widths of columns are levelled before outputs are compared; ports are replaced by free ones, since the
documented ones may be taken.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.docs import pages
from tests.docs.pages import Block, Command, Page
from tests.harness import Stack, free_port

PATIENCE_S = 30.0
LOOKS_MAX = 5
PORTS = ("8080", "8081", "6390")  # the ones that the pages use
PAGES = [page for page in pages.all_pages() if any(block.language == "console" for block in page.blocks)]

# Everything that is shown and not run: (page, reason), in the order of the pages. Add to it only what can't be run.
NOT_RUN = [
    ("CONTRIBUTING.md", "runs the whole suite"),
    ("README.md", "needs the network"),
    ("README.md", "runs in tests/examples/test_demo.py"),
    ("examples/shop/README.md", "runs in tests/examples/test_shop.py"),
]

LEVELS = (
    (re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"), "<id>"),
    (re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)"), "<time>"),
    (re.compile(r"\b(\d+(\.\d+)?(e[+-]?\d+)? ?(ms|s|m|h|KiB|MiB|GiB|B))+\b"), "<amount>"),
    (re.compile(r"\d+(\.\d+)+|\d{3,}"), "<n>"),  # restarts and exit codes are shorter, and must be right
    (re.compile(r"-{2,}"), "--"),
    (re.compile(r"\s+"), " "),
)


def level(text: str) -> str:
    for pattern, replacement in LEVELS:
        text = pattern.sub(replacement, text)
    return text.strip()


def agrees(shown: str, real: str) -> bool:
    """Whether a line of the page stands for this line of output."""
    parts = [re.escape(level(part)) for part in shown.split("…")]
    return re.fullmatch(r"\s*.*\s*".join(parts), level(real)) is not None


def missing(expected: list[str], output: str) -> str | None:
    """The first expected line that the output lacks, in order; None when all are there.

    Between expected lines nothing else may stand unless the page says `...`.
    """
    lines = output.splitlines()
    at, may_skip = 0, False
    for wanted in expected:
        if wanted.strip() == "...":
            may_skip = True
            continue
        while at < len(lines) and not agrees(wanted, lines[at]):
            if not may_skip:
                return f"{wanted!r}, but there is {lines[at]!r}"
            at += 1
        if at == len(lines):
            return repr(wanted)
        at, may_skip = at + 1, False
    if expected and not may_skip and at < len(lines):
        return f"nothing more, but there is {lines[at]!r}"
    return None


class Reader:
    """Somebody who follows a page in a folder."""

    def __init__(self, stack: Stack) -> None:
        self.folder = stack.folder
        self.ports = {port: str(free_port()) for port in PORTS}
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        self.env = {**stack.env, "PATH": path, "COLUMNS": "100", "PYTHONUNBUFFERED": "1"}

    def with_ports(self, text: str) -> str:
        for shown, real in self.ports.items():
            text = text.replace(shown, real)
        return text

    def follow(self, block: Block) -> None:
        if "file" in block.tags:
            path = self.folder / block.tags["file"]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(self.with_ports("\n".join(block.lines) + "\n"))
        elif block.language == "console" and "skip" not in block.tags:
            for command in block.commands:
                self.run(command)

    def run(self, command: Command) -> None:
        """Run it and compare. One that begins with `sleep` looks at what takes its time: it may look again."""
        looks = LOOKS_MAX if command.text.startswith("sleep ") else 1
        for _ in range(looks - 1):
            with contextlib.suppress(AssertionError):
                return self.run_once(command)
        return self.run_once(command)

    def run_once(self, command: Command) -> None:
        if command.is_interrupted:
            code, output = self.interrupted(command)
        else:
            done = subprocess.run(
                ["bash", "-c", self.with_ports(command.text)], cwd=self.folder, env=self.env, stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=PATIENCE_S, check=False,
            )  # fmt: skip
            code, output = done.returncode, done.stdout
        where = f"line {command.line}: $ {command.text}"
        assert code == command.exit_code, f"{where}\nended with {code}, not {command.exit_code}:\n{output}"
        expected = [line for line in command.output if line != pages.INTERRUPT]
        lacks = missing([self.with_ports(line) for line in expected], output)
        assert lacks is None, f"{where}\nthe page shows {lacks}; the output is:\n{output}"

    def interrupted(self, command: Command) -> tuple[int, str]:
        """Run it until what the page shows before `^C` has been seen, then send what Ctrl-C sends."""
        before = [self.with_ports(line) for line in command.output[: command.output.index(pages.INTERRUPT)]]
        process = subprocess.Popen(
            ["bash", "-c", f"exec {self.with_ports(command.text)}"], cwd=self.folder, env=self.env,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            start_new_session=True,
        )  # fmt: skip
        killer = threading.Timer(PATIENCE_S, process.kill)
        killer.start()
        output = ""
        assert process.stdout is not None
        with process.stdout:
            for line in process.stdout:
                output += line
                if missing([*before, "..."], output) is None:
                    process.send_signal(signal.SIGINT)
                    break
            output += process.stdout.read()
        code = process.wait()
        killer.cancel()
        return code, output


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_commands_of_a_page_do_what_it_says(page: Page, make_stack: Callable[..., Stack]) -> None:
    text = "\n".join(line for block in page.blocks if block.language == "console" for line in block.lines)
    if "curl" in text and shutil.which("curl") is None:
        pytest.skip("needs curl (python tools/provision.py installs it)")
    reader = Reader(make_stack())
    (reader.folder / "duende.toml").unlink()  # the page says itself what there is
    for block in page.blocks:
        reader.follow(block)


def test_what_is_not_run_is_known() -> None:
    """A list that one has to change, so that nobody gets out of being tested by a tag."""
    consoles = [(page.name, block) for page in PAGES for block in page.blocks if block.language == "console"]
    found = [(name, block.tags["skip"]) for name, block in consoles if "skip" in block.tags]
    assert sorted(found) == sorted(NOT_RUN)


def test_commands_are_in_console_blocks() -> None:
    """A `$ ` line in another block would look as if it were tested."""
    for page in pages.all_pages():
        for block in page.blocks:
            if block.language in ("", "sh", "shell", "bash", "text") and "file" not in block.tags:
                for number, line in enumerate(block.lines, start=block.line):
                    assert not line.startswith("$ "), f"{page.name}:{number}: use a console block"


def test_the_comparison_sees_a_difference() -> None:
    """The judge itself: levelled numbers agree, other words and other lines do not."""
    output = "web  ok  running\nworker.1    ok  running: pid 1717, up 0.2s\n"
    assert missing(["web ok running", "worker.1 ok running: pid 4242, up 12ms"], output) is None
    assert missing(["...", "worker.1 ok running: …"], output) is None
    assert missing(["web ok running", "..."], output) is None
    assert missing([], output) is None
    assert missing(["web ok stopped", "..."], output)
    assert missing(["exit 7"], "exit 8\n")
    assert missing(["web ok running"], output)
    assert missing(["worker.1 ok running: pid 1111, up 1s"], output)
    assert missing(["...", "worker.1 ok running: …", "more"], output)
    assert missing(["...", "worker.1 ok running: …", "web ok running"], output)
