"""`python -m duende.worker`: an instance under a manager; with a target as its argument, a daemon in the foreground."""

from __future__ import annotations

import os
import sys
from typing import Any

__all__ = ["main"]

_USAGE = "usage: python -m duende.worker pkg.mod:Class|path/to/file.py:Class [--settings JSON]"
_EXIT_USAGE = 2


def main(argv: list[str]) -> int:
    """Return the exit code; under a manager the process ends here and does not return."""
    if "DUENDE_WORKER_SPEC_FD" in os.environ:
        from duende.worker.process import forget_start_folder, live_and_leave

        forget_start_folder()
        live_and_leave()
    try:
        target, settings = _parse(argv)
    except ValueError as error:
        print(f"{error}\n{_USAGE}", file=sys.stderr)
        return _EXIT_USAGE
    from duende.errors import ConfigurationError
    from duende.worker.control import Control
    from duende.worker.foreground import run
    from duende.worker.host import EXIT_PERMANENT, report_failure
    from duende.worker.target import load_daemon_class

    try:
        daemon = load_daemon_class(target)()
    except ConfigurationError as error:
        report_failure(Control(None), "load", error)
        return EXIT_PERMANENT
    sys.argv = [target]
    return run(daemon, settings=settings)


def _parse(argv: list[str]) -> tuple[str, dict[str, Any]]:
    match argv:
        case [target]:
            return target, {}
        case [target, "--settings", text]:
            import json

            settings = json.loads(text)
            if not isinstance(settings, dict):
                raise ValueError(f"--settings needs a JSON object, not {text!r}")
            return target, settings
        case _:
            raise ValueError(f"one target is needed, found {argv!r}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
