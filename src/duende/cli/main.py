"""The entry of `duende`: finds the verb, imports its one file, and turns what escapes into words and an exit code.

It imports next to nothing: `duende status` is typed, scripted and polled, and each import here is paid every time.
"""

from __future__ import annotations

import os
import sys

from duende.cli import exits

__all__ = ["VERBS", "entry", "help_text", "main", "module_of", "verb_position"]

# verb -> what it does; its file is `duende/cli/VERB.py` (`module_of`) with `main(argv) -> exit code` and `parser()`.
VERBS = {
    "up": "start the stack: here in the foreground, or with -d in the background",
    "down": "stop the daemons and the manager",
    "run": "run one command or class under supervision, without a file",
    "start": "start daemons",
    "stop": "stop daemons",
    "restart": "stop and start daemons",
    "reload": "ask daemons to read their configuration again",
    "signal": "send a signal to daemons",
    "status": "show where the daemons stand, and why",
    "explain": "say why a daemon is as it is, and what comes next",
    "graph": "show who comes after whom, and what the last start was waiting for",
    "ps": "show the processes of the daemons",
    "logs": "show what daemons wrote",
    "metrics": "show what Python-class daemons say of themselves",
    "events": "show what happened",
    "hooks": "show who is told what happens, and whether that works",
    "wait": "wait until daemons have reached a state",
    "exec": "run a command the way a daemon is run",
    "check": "check the configuration and say all that is wrong",
    "schema": "print the JSON Schema of duende.toml",
    "import": "write a duende.toml from another tool's file",
    "doctor": "look whether this machine has what duende needs",
    "claims": "run the tests of the claims and report (in a checkout)",
    "completion": "print the completion script of a shell",
    "version": "print versions",
}
_HIDDEN = {"__complete": "complete_words"}
_OTHER_FILES = {"import": "import_"}  # verbs that Python does not allow as the name of a module

_HELP_HEAD = """\
usage: duende [-c FILE | -s STACK] [--json] [--no-color] VERB ...

Runs long-lived programs and keeps them running.

verbs:
"""
_HELP_TAIL = """
options, before or after the verb:
  -c, --config FILE   the stack's file (default: duende.toml here or in a folder above, or $DUENDE_CONFIG)
  -s, --stack NAME    the stack by its name, from anywhere (or $DUENDE_STACK)
  --json              one JSON document; streams: one JSON document a line
  --no-color          no colours (or $NO_COLOR)
  -h, --help          this help, or a verb's: duende VERB --help

examples:
  duende up -d                    start everything in the background
  duende status                   see how it is
  duende logs -f web              follow what web writes
  duende restart 'worker.*'       restart some by a pattern

Exit codes: 0 done, 1 failed, 2 usage or configuration, 3 not running, 4 no such daemon, 5 timed out, 69 no manager.
"""
_WITH_VALUE = ("-c", "--config", "-s", "--stack")
_WITHOUT_VALUE = ("--json", "--no-color")


def entry() -> None:
    """The console script."""
    code = main(sys.argv[1:])
    if "duende.api.host" in sys.modules or "duende.testing" in sys.modules:
        sys.exit(code)  # we were a manager or ran tests: there may be threads and handlers to end
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except OSError:
            pass  # `main` has told it where it could be told
    os._exit(code)  # taking the interpreter apart costs some 6 ms, a seventh of `duende status`


def main(argv: list[str]) -> int:
    """Run one command line; returns the exit code and never raises anything but SystemExit from argparse."""
    if sys.stdout is not None and hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="backslashreplace")  # a name in another alphabet must not break `status`
    try:
        code = _dispatch(argv)
        if sys.stdout is not None:
            sys.stdout.flush()  # here, where it can still be told; at exit Python would say it in a traceback
        return code
    except KeyboardInterrupt:
        return exits.INTERRUPTED
    except BrokenPipeError:
        _discard_output()
        return exits.PIPE_CLOSED
    except SystemExit:
        raise
    except Exception as error:  # noqa: BLE001 - told by its kind; a bug of ours keeps its traceback
        from duende.cli.failure import tell

        return tell(error)


def _dispatch(argv: list[str]) -> int:
    position = verb_position(argv)
    if position is None:
        if "-h" in argv or "--help" in argv:
            sys.stdout.write(help_text())
            return exits.OK
        sys.stderr.write(help_text())
        return exits.USAGE
    verb, rest = argv[position], argv[:position] + argv[position + 1 :]
    if verb in _HIDDEN:
        module = _HIDDEN[verb]
    elif verb in VERBS:
        module = module_of(verb)
    elif verb == "help":
        return _dispatch([*rest[:1], "--help"])
    elif verb == "--version":
        module = "version"
    else:
        sys.stderr.write(_unknown(verb))
        return exits.USAGE
    code: int = __import__(f"duende.cli.{module}", fromlist=["main"]).main(rest)
    return code


def verb_position(argv: list[str]) -> int | None:
    """Where the verb is: the first word that is neither a global option nor its value."""
    position = 0
    while position < len(argv):
        word = argv[position]
        if word in _WITH_VALUE:
            position += 2
        elif word in _WITHOUT_VALUE or word.startswith(("--config=", "--stack=")):
            position += 1
        elif word in ("-h", "--help"):
            return None
        elif word[:2] in ("-c", "-s") and len(word) > 2:
            position += 1  # -cFILE
        else:
            return position
    return None


def module_of(verb: str) -> str:
    """The module in `duende.cli` that has a verb's parser."""
    return _OTHER_FILES.get(verb, verb)


def help_text() -> str:
    """What `duende --help` prints."""
    width = max(len(verb) for verb in VERBS)
    return _HELP_HEAD + "".join(f"  {verb:{width}}  {text}\n" for verb, text in VERBS.items()) + _HELP_TAIL


def _unknown(verb: str) -> str:
    import difflib

    what = "option" if verb.startswith("-") else "verb"
    near = difflib.get_close_matches(verb, VERBS, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(VERBS)}"
    return f"duende: unknown {what} {verb!r}: {hint}\n"


def _discard_output() -> None:
    # Python flushes stdout once more at exit; that must not fail again (docs: «Note on SIGPIPE», signal module).
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    entry()
