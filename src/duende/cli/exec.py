"""`duende exec`: run a command the way a daemon is run: its environment, directory, user and umask."""

from __future__ import annotations

import argparse
import os
import sys

from duende.cli import exits
from duende.cli.failure import UsageError
from duende.cli.options import ask, parse, verb_parser
from duende.cli.output import printable
from duende.cli.status import quoted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

    from duende.api.client import Client

__all__ = ["main", "parser", "split_command"]


def parser() -> argparse.ArgumentParser:
    """The command line of this verb."""
    made = verb_parser(
        "exec",
        "Run a command in a daemon's environment and directory and as its user; the daemon need not run. The command "
        "is not limited, watched or logged. The exit code is the command's.",
        """
        exec web -- env                    what web sees
        exec web -- python manage.py shell
        """,
        usage="duende exec [options] NAME -- COMMAND [ARGUMENT ...]",
    )
    made.add_argument("name", metavar="NAME", help="the daemon")
    return made


def main(argv: list[str]) -> int:
    """Run the verb; on success it does not return."""
    words, command = split_command(argv)
    options = parse(parser(), words)
    if not command:
        raise UsageError("exec: no command given; write `duende exec NAME -- COMMAND`")

    def question(client: Client) -> Any:
        return client.get(f"/v1/daemons/{quoted(options.name)}/exec-environment")

    environment = ask(options, question)
    _become_user(environment)
    if environment["umask"] is not None:
        os.umask(environment["umask"])
    if environment["cwd"]:
        os.chdir(environment["cwd"])
    sys.stdout.flush()
    sys.stderr.flush()
    try:
        _execute(command, environment["env"])
    except FileNotFoundError:
        sys.stderr.write(f"duende: cannot execute {printable(command[0])}: not found\n")
        return exits.NOT_FOUND
    except OSError as error:
        sys.stderr.write(f"duende: cannot execute {printable(command[0])}: {error.strerror}\n")
        return exits.NOT_EXECUTABLE


def split_command(argv: list[str]) -> tuple[list[str], list[str]]:
    """What stands before the first `--`, and what stands behind it."""
    if "--" not in argv:
        return argv, []
    position = argv.index("--")
    return argv[:position], argv[position + 1 :]


def _execute(command: list[str], env: dict[str, str]) -> NoReturn:
    os.execvpe(command[0], command, env)  # searched on the daemon's PATH, not on ours


def _become_user(environment: dict[str, Any]) -> None:
    """Take on the daemon's groups, group and user. UsageError where we may not, rather than run as somebody else."""
    user, group = environment["user"], environment["group"]
    if user is None and group is None:
        return
    import grp
    import pwd

    try:
        entry = (pwd.getpwuid(int(user)) if user.isdigit() else pwd.getpwnam(user)) if user is not None else None
        gid = None
        if group is not None:
            gid = int(group) if group.isdigit() else grp.getgrnam(group).gr_gid
    except KeyError:
        raise UsageError(f"exec: no such user or group: {user or '-'}:{group or '-'}") from None
    uid = os.geteuid() if entry is None else entry.pw_uid
    if gid is None:
        gid = os.getegid() if entry is None else entry.pw_gid
    if (uid, gid) == (os.geteuid(), os.getegid()):
        return
    try:
        os.setgroups([gid]) if entry is None else os.initgroups(entry.pw_name, gid)
        os.setgid(gid)
        os.setuid(uid)
    except PermissionError:
        raise UsageError(f"exec: only root may run a command as {user or '-'}:{group or '-'}") from None
