"""The exit codes, once. docs/reference/exit-codes.md is made from this table and a test compares them."""

from __future__ import annotations

__all__ = [
    "FAILED",
    "INCOMPLETE",
    "INTERRUPTED",
    "MEANINGS",
    "NOT_EXECUTABLE",
    "NOT_FOUND",
    "NOT_RUNNING",
    "NO_MANAGER",
    "NO_SUCH_DAEMON",
    "OK",
    "PERMISSION",
    "PIPE_CLOSED",
    "TIMED_OUT",
    "USAGE",
    "reference_markdown",
]

OK = 0
FAILED = 1
USAGE = 2
NOT_RUNNING = 3
NO_SUCH_DAEMON = 4
TIMED_OUT = 5
INCOMPLETE = 6
NO_MANAGER = 69  # EX_UNAVAILABLE, sysexits.h
PERMISSION = 77  # EX_NOPERM, sysexits.h
NOT_EXECUTABLE = 126  # as shells say it
NOT_FOUND = 127
INTERRUPTED = 130  # 128 + SIGINT
PIPE_CLOSED = 141  # 128 + SIGPIPE

MEANINGS = (
    (OK, "Done; or it was so already. `status` without names: the question was answered, whatever the answer."),
    (FAILED, "It failed for at least one daemon, a check failed, or the output could not be written."),
    (USAGE, "The command line or the configuration is wrong. Nothing was done."),
    (NOT_RUNNING, "`status NAME`: at least one of them is not running (LSB). Running, paused: 0."),
    (NO_SUCH_DAEMON, "No daemon of that name (LSB: status unknown). Nothing was done."),
    (TIMED_OUT, "The time to wait was over. What was asked for goes on."),
    (INCOMPLETE, "`import`: written, but something could not be carried over. Standard error names it."),
    (
        NO_MANAGER,
        "No manager runs for this stack, none came within 5 s where one is expected, or it does not answer. "
        "`status` tells all the same which daemons are alive; `down` ends them, and that is code 0.",
    ),
    (PERMISSION, "The manager belongs to another user."),
    (NOT_EXECUTABLE, "`exec`: the command was found but can't be executed."),
    (NOT_FOUND, "`exec`: the command was not found."),
    (INTERRUPTED, "Ended by Ctrl-C."),
    (PIPE_CLOSED, "The reader of our output went away, as in `duende logs -f | head`."),
)


def reference_markdown() -> str:
    """The page docs/reference/exit-codes.md."""
    lines = [
        "# Exit codes",
        "",
        "<!-- made from src/duende/cli/exits.py; a test compares -->",
        "",
        "| code | meaning |",
        "|---:|---|",
        *(f"| {code} | {meaning} |" for code, meaning in MEANINGS),
        "",
        "`exec NAME -- COMMAND` becomes the command and so ends with its exit code.",
        "",
        "`status NAME` follows LSB's init script actions as far as they apply: 0 running, 3 not running, 4 unknown.",
        "LSB's 1 and 2 (dead, but a file is left behind) do not occur: what is left behind is cleaned up.",
        "",
    ]
    return "\n".join(lines)
