"""supervisord.conf: programs, groups and includes, with supervisord's own defaults where duende's differ.

`startsecs` and `startretries` become `restart.reset_after` and `restart.max_retries`: in both tools a run that is
shorter counts as one more try of the same row, and a row of that many ends the tries. Programs whose command or
variables use `%(process_num)d` become one daemon each, with the number written out; others become replicas.
"""

from __future__ import annotations

import glob
import os
import re
import shlex
from collections.abc import Iterable, Mapping

from duende.config.files import read_config_file
from duende.config.importers.draft import MARKED, Draft, Findings, Origin, Place, Sheet, hidden, refuse, variable
from duende.config.importers.ini import Section, parse_ini
from duende.config.importers.supervisord_keys import KEYS, NOT_NEEDED, OTHER_SECTIONS, SUPERVISORD_KEYS, Program
from duende.config.paths import is_name, sanitized_name

__all__ = ["read"]

_EXPANSION = re.compile(r"%(?:%|\((?P<name>[^)]*)\)(?P<form>[-0-9.]*[a-z])|(?P<wrong>.?))")
_PROCESS_NUM = re.compile(r"%\(process_num\)")
_REPLICATED_MAX = 1000  # separate daemons that are written out; beyond it somebody should think


def read(text: str, place: Place, findings: Findings) -> Sheet:
    """All programs of a file and of what it includes."""
    sections = parse_ini(text, place)
    for section in sections:
        if section.name == "include":
            sections = [*sections, *_included(section, place, findings)]
            break
    sheet = Sheet(place.at(), head=[
        f"From {place.file} (supervisord). A program without `directory` ran where supervisord was started;",
        "here it runs in the folder of this file.",
    ])  # fmt: skip
    shared = _shared(next((one for one in sections if one.name == "supervisord"), None), place, findings)
    groups = _groups(sections, findings)
    for section in sections:
        kind, _, name = section.name.partition(":")
        if kind == "program":
            sheet.drafts += _program(section, name.strip(), groups.get(name.strip(), ""), shared, place, findings)
        elif section.name in NOT_NEEDED or kind in NOT_NEEDED:
            at = Origin(section.file, section.line, f"[{section.name}]")
            findings.note(at, f"is not needed: {NOT_NEEDED.get(section.name) or NOT_NEEDED[kind]}")
        elif kind not in ("supervisord", "group", "include"):
            reason, hint = OTHER_SECTIONS.get(kind, ("is not known to import", ""))
            findings.drop(Origin(section.file, section.line, f"[{section.name}]"), reason, hint)
    if not sheet.drafts:
        raise refuse(place.at(), "has no [program:NAME]")
    return sheet


def _included(section: Section, place: Place, findings: Findings) -> list[Section]:
    """As supervisord has it: patterns are relative to the file's folder, and an included file includes nothing."""
    found: list[Section] = []
    for key, (value, line) in section.values.items():
        at = Origin(section.file, line, f"[include] {key}")
        if key != "files":
            findings.drop(at, "is not known to import")
            continue
        for pattern in value.split():
            pattern = pattern.replace("%(here)s", place.folder)
            if "%(" in pattern:
                findings.drop(at, f"{pattern} depends on a variable", "name the files: duende import A.conf B.conf")
                continue
            names = sorted(glob.glob(os.path.join(place.folder, pattern)))
            if not names:
                findings.note(at, f"{pattern} matches no file")
            for name in names:
                shown = os.path.join(os.path.dirname(place.file), os.path.relpath(name, place.folder))
                inner = Place(shown, os.path.dirname(name), place.is_home)
                found += [one for one in parse_ini(read_config_file(name), inner) if one.name != "include"]
    return found


def _groups(sections: Iterable[Section], findings: Findings) -> dict[str, str]:
    """Program to group."""
    result: dict[str, str] = {}
    for section in sections:
        kind, _, group = section.name.partition(":")
        for key, (value, line) in section.values.items() if kind == "group" else ():
            at = Origin(section.file, line, f"[{section.name}] {key}")
            if key == "programs":
                members = [name.strip() for name in value.split(",") if name.strip()]
                result.update(dict.fromkeys(members, group.strip()))
                names = ", ".join(f"{group.strip()}.{name}" for name in members)
                findings.note(at, f"its programs are named {names}; speak of all as '{group.strip()}.*'")
            else:
                findings.drop(at, "duende orders by need, not by number", "use `after`")
    return result


def _shared(section: Section | None, place: Place, findings: Findings) -> Mapping[str, tuple[str, Origin]]:
    """What [supervisord] gives to all programs."""
    result: dict[str, tuple[str, Origin]] = {}
    for key, (value, line) in section.values.items() if section else ():
        at = Origin(section.file if section else "", line, f"[supervisord] {key}")
        if key in ("environment", "umask", "directory"):
            result[key] = (value, at)
        elif key not in SUPERVISORD_KEYS:
            findings.drop(at, "is not known to import")
        elif hint := SUPERVISORD_KEYS[key]:
            findings.drop(at, "is about supervisord itself", hint)
        else:
            findings.note(at, "is about supervisord itself and not needed")
    return result


def _program(
    section: Section, name: str, group: str, shared: Mapping[str, tuple[str, Origin]], place: Place, findings: Findings
) -> list[Draft]:
    at = Origin(section.file, section.line, f"[{section.name}]")
    values = {
        key: (value, Origin(section.file, line, f"[{section.name}] {key}"))
        for key, (value, line) in section.values.items()
    }
    folder = place.folder
    names = {"program_name": name, "group_name": group or name, "here": folder, "host_node_name": os.uname().nodename}
    numprocs = _count(values, "numprocs", 1, findings)
    first = _count(values, "numprocs_start", 0, findings)
    names["numprocs"] = str(numprocs)
    for key in values:
        if key not in KEYS:
            findings.drop(values[key][1], "is not known to import")
    numbered = any(_PROCESS_NUM.search(values[key][0]) for key in ("command", "environment", "directory", "user")
                   if key in values)  # fmt: skip
    title = f"{group}.{name}" if group else name
    if numbered and numprocs > 1:
        if numprocs > _REPLICATED_MAX:
            findings.drop(values["numprocs"][1], f"{numprocs} numbered programs are too many to write out one by one")
            return []
        drafts = []
        for number in range(first, first + numprocs):
            words = {**names, "process_num": str(number)}
            pattern = values.get("process_name", (f"{name}_{number}", at))[0]
            process = expanded(pattern, words, at, Findings()) or f"{name}_{number}"
            process = MARKED.sub("x", process)
            process = process if is_name(process) else sanitized_name(process)
            quiet = findings if number == first else Findings()  # say each thing once, not for each number
            draft = Draft(f"{group}.{process}" if group else process, at, quiet)
            drafts.append(_filled(Program(draft, values, shared, place, quiet), words))
        return drafts
    draft = Draft(title, at, findings)
    program = _filled(Program(draft, values, shared, place, findings), {**names, "process_num": str(first)})
    if numprocs > 1:
        where = values["numprocs"][1]
        draft.put(where, numprocs, "replicas")
        findings.note(where, f"the processes are named {title}.1 to {title}.{numprocs}, whatever process_name says")
    elif "process_name" in values and values["process_name"][0] not in ("%(program_name)s", name):
        findings.note(values["process_name"][1], f"the daemon keeps the program's name, {title}")
    return [program]


def _count(values: Mapping[str, tuple[str, Origin]], key: str, default: int, findings: Findings) -> int:
    text, at = values.get(key, (str(default), Origin("")))
    if text.isascii() and text.isdigit() and len(text) <= 6:
        return int(text)
    findings.drop(at, f"{text[:40]!r} is not a whole number")
    return default


def _filled(program: Program, words: Mapping[str, str]) -> Draft:
    """Expand every value and carry it over."""
    merged = {key: entry for key, entry in program.shared.items() if key not in program.values or key == "environment"}
    for key, (value, at) in merged.items():
        if (text := expanded(value, words, at, program.findings)) is not None:
            if key == "environment":
                program.draft.put_env(at, environment_of(text, at, program.findings))
            else:
                KEYS[key](program, text, at)
    for key in (key for key in KEYS if key in program.values):
        value, at = program.values[key]
        if (text := expanded(value, words, at, program.findings)) is not None:
            if key == "environment":
                program.draft.put_env(at, environment_of(text, at, program.findings))
            else:
                KEYS[key](program, text, at)
    program.finish()
    return program.draft


def expanded(text: str, words: Mapping[str, str], at: Origin, findings: Findings) -> str | None:
    """`%(name)s` replaced, `%(ENV_X)s` as a variable; None, and named, when there is another or none of that name."""
    wrong: list[str] = []

    def one(match: re.Match[str]) -> str:
        if match[0] == "%%":
            return "%"
        name, form = match["name"], match["form"]
        if name is None:
            wrong.append(f"a lone {match[0]!r}; supervisord wants %% for %")
            return ""
        if name.startswith("ENV_") and form == "s":
            return variable(name[4:])
        if name not in words:
            wrong.append(f"%({name}){form} has no counterpart")
            return ""
        try:
            value: str | int = int(words[name]) if form[-1] != "s" else words[name]
            return f"%{form}" % value
        except (TypeError, ValueError) as error:
            wrong.append(f"{match[0]}: {error}")
            return ""

    result = _EXPANSION.sub(one, text)
    if wrong:
        findings.drop(at, wrong[0], "write the value by hand")
        return None
    return result


def environment_of(text: str, at: Origin, findings: Findings) -> dict[str, str]:
    """`KEY="value",KEY2=value`, split as supervisord does (its datatypes.py): shlex without POSIX rules."""
    plain, shown = hidden(text)  # one word for shlex, whatever is inside
    lexer = shlex.shlex(plain)
    lexer.wordchars += "/.+-():\ufdd2"
    result: dict[str, str] = {}
    try:
        tokens = list(lexer)
    except ValueError as error:
        findings.drop(at, f"can't be split: {str(error).lower()}", "close the quote")
        return result
    for start in range(0, len(tokens), 4):
        three = tokens[start : start + 3]
        if len(three) != 3 or three[1] != "=":
            findings.drop(
                at, f"is not KEY=value from {' '.join(three)[:40]!r} on", "quote values with other characters"
            )
            return result
        result[three[0]] = shown(three[2].strip("'\""))
    return result
