"""From files of other tools to one `duende.toml`: read each, then have duende's own loader judge what came of it.

The loader has the last word: a value that it refuses is taken out again and named as not carried over, with the place
that it came from. So what is written always loads, on this machine or on another.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from duende.config.envfile import parse_env_file
from duende.config.files import read_config_file
from duende.config.importers import compose, pm2, procfile, supervisord, systemd
from duende.config.importers.detect import kind_of_file
from duende.config.importers.draft import MARKED, RESERVED, Draft, Findings, Place, Sheet
from duende.config.importers.write import toml_text
from duende.config.layers import dotted
from duende.config.load import load_text
from duende.errors import ConfigurationError, Problem

__all__ = ["KINDS", "Imported", "import_files"]

_Reader = Callable[[str, Place, Findings], Sheet]
KINDS: Mapping[str, _Reader] = {
    "procfile": procfile.read,
    "supervisord": supervisord.read,
    "pm2": pm2.read,
    "compose": compose.read,
    "systemd": systemd.read,
}
_ROUNDS_MAX = 50  # each takes out at least one value; then something is wrong with us


@dataclass(frozen=True, slots=True)
class Imported:
    """The written file and what is to be said about it."""

    text: str
    names: tuple[str, ...]
    kinds: tuple[str, ...]
    dropped: tuple[Problem, ...]
    notes: tuple[Problem, ...]


def import_files(paths: Sequence[str], *, kind: str = "", directory: str = "") -> Imported:
    """Read files of other tools; `kind` is found out where it is not given, `directory` is where duende.toml will be.

    ConfigurationError says which file can't be read at all, and why. What can be read but not carried over is in
    `dropped` and `notes`.
    """
    directory = os.path.abspath(directory or os.getcwd())
    findings = Findings()
    sheets, kinds = [], []
    for path in paths:
        text = read_config_file(path)
        if unfit := RESERVED.search(text):
            line = text.count("\n", 0, unfit.start()) + 1
            raise ConfigurationError([Problem("contains Unicode noncharacters (U+FDD0)", file=path, line=line)])
        folder = os.path.dirname(os.path.abspath(path))
        place = Place(path, folder, os.path.realpath(folder) == os.path.realpath(directory))
        kinds.append(kind or kind_of_file(path, text))
        sheets.append(KINDS[kinds[-1]](text, place, findings))
    systemd.join([draft for found, sheet in zip(kinds, sheets, strict=True) if found == "systemd"
                  for draft in sheet.drafts], findings)  # fmt: skip
    _drop_twins(sheets, findings)
    _look_at_env_files(sheets, findings, directory)
    text = _settled(sheets, findings, directory)
    names = tuple(draft.name for sheet in sheets for draft in sheet.drafts)
    if not names:
        reasons = [*findings.dropped, *findings.notes]
        raise ConfigurationError([*reasons, Problem("holds nothing that could be carried over", file=" ".join(paths))])
    return Imported(text, names, tuple(kinds), tuple(findings.dropped), tuple(findings.notes))


def _drop_twins(sheets: Sequence[Sheet], findings: Findings) -> None:
    seen: dict[str, Draft] = {}
    for sheet in sheets:
        for draft in list(sheet.drafts):
            first = seen.setdefault(draft.name, draft)
            if first is not draft:
                sheet.drafts.remove(draft)
                where = f"{first.at.file}:{first.at.line}"
                findings.drop(
                    draft.at, f"there is a daemon {draft.name} already, from {where}", "rename one of the two"
                )


def _look_at_env_files(sheets: Sequence[Sheet], findings: Findings, directory: str) -> None:
    """A missing one may come later; one that duende can't read would keep the whole stack from loading."""
    for draft in [draft for sheet in sheets for draft in sheet.drafts]:
        names, at = draft.values.get(("env_file",), ((), draft.at))
        kept = []
        for name in names:
            path = os.path.join(directory, name.removeprefix("-"))
            if MARKED.search(name) or not os.path.exists(path):
                if not name.startswith("-"):
                    findings.note(at, f"{path} does not exist here; duende loads the file only when it does")
                kept.append(name)
                continue
            problems = _env_file_problems(path)
            for problem in problems:
                findings.drop(at, f"duende can't read this env file: {problem}", "mend the line, or set it in `env`")
            kept += [] if problems else [name]
        if names:
            draft.values["env_file",] = (kept, at)
        if names and not kept:
            del draft.values["env_file",]


def _env_file_problems(path: str) -> list[Problem]:
    try:
        return parse_env_file(read_config_file(path), file=path)[1]
    except ConfigurationError as error:
        return list(error.problems)


def _settled(sheets: list[Sheet], findings: Findings, directory: str) -> str:
    """The text after everything that the loader refuses has been taken out."""
    for _ in range(_ROUNDS_MAX):
        _drop_bare(sheets, findings)
        try:
            load_text(toml_text(sheets, with_env_files=False), directory=directory, environ=_AnyVariable())
        except ConfigurationError as error:
            taken = [_take_out(sheets, findings, problem) for problem in error.problems]
            if not any(taken):
                raise AssertionError(f"import made a file that does not load: {error}") from error
        else:
            return toml_text(sheets, findings.dropped)
    raise AssertionError("import could not make a file that loads")


def _drop_bare(sheets: Sequence[Sheet], findings: Findings) -> None:
    """Daemons that have lost their command."""
    for sheet in sheets:
        for draft in list(sheet.drafts):
            if draft.get("command") is None:
                sheet.drafts.remove(draft)
                findings.drop(draft.at, "is not carried over: there is no command to run")
                _forget(sheets, draft.name, findings)


def _forget(sheets: Sequence[Sheet], name: str, findings: Findings) -> None:
    """Nobody can wait for a daemon that is not there."""
    for draft in [draft for sheet in sheets for draft in sheet.drafts]:
        if ("after", name) in draft.values:
            _, at = draft.values.pop(("after", name))
            findings.drop(at, f"waits for {name}, which is not carried over")


def _take_out(sheets: Sequence[Sheet], findings: Findings, problem: Problem) -> bool:
    """Take out what the loader's problem is about; whether there was something."""
    for sheet in sheets:
        if sheet.stack_name and problem.key == "stack.name":
            findings.drop(sheet.at, f"the name {sheet.stack_name} can't name a stack: {problem.reason}", problem.hint)
            sheet.stack_name = ""
            return True
        for draft in sheet.drafts:
            whole = dotted(("daemon", draft.name))
            if problem.key == whole:
                sheet.drafts.remove(draft)
                findings.drop(draft.at, f"is not carried over: {problem.reason}")
                _forget(sheets, draft.name, findings)
                return True
            hit = [path for path in draft.values if _concerns(problem.key, dotted(("daemon", draft.name, *path)))]
            if not hit:  # about a key that we left to its default: the table around it goes
                hit = [path for path in draft.values if problem.key.startswith(f"{whole}.{path[0]}.")]
            for path in hit:
                _, at = draft.values.pop(path)
                findings.drop(at, f"duende can't take it as {'.'.join(path)}: {problem.reason}", problem.hint)
            if hit:
                return True
    return False


def _concerns(problem_key: str, key: str) -> bool:
    return problem_key == key or problem_key.startswith((f"{key}.", f"{key}[")) or key.startswith(f"{problem_key}.")


class _AnyVariable(dict[str, str]):
    """An environment in which everything is set: what a variable will hold is not known yet."""

    def get(self, key: str, default: object = None) -> str:
        return "/" if key == "HOME" else "1"
