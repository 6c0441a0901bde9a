"""Lists of steps in time: `stop = [["redis-cli", "shutdown"], "10s", "SIGTERM", "5s", "SIGKILL"]`, and of delays."""

from __future__ import annotations

from typing import Any

from duende.config.containers import command
from duende.config.kinds import MISSING, Kind, Missing, Reader, WrongType, duration, found, signal
from duende.config.locate import KeyPath
from duende.config.units import DURATION_PATTERN, parse_duration
from duende.model.signals import Signal
from duende.model.stop import StopStep

__all__ = ["durations", "ladder_problem", "stop_ladder"]

_WAIT_S = 10.0  # of a step without a duration, as shutdown_timeout
_NOT_ENDING = (Signal.STOP, Signal.CONT)
_EXPECTED = 'a signal such as "SIGTERM", a command as a list, or after one of these how long to wait ("10s")'


def ladder_problem(steps: tuple[StopStep, ...]) -> str:
    """What is wrong with a ladder; empty when nothing is."""
    for step in steps[:-1]:
        if step.signal is Signal.KILL:
            return "SIGKILL ends every process, so nothing can come after it"
    for step in steps:
        if step.signal in _NOT_ENDING:
            return f"{step} never ends a program"
        if (step.signal is None) == (not step.command):
            return "a step needs either a signal or a command"
    return ""


def _read(reader: Reader, at: KeyPath, value: object) -> tuple[StopStep, ...] | Missing:
    if not isinstance(value, list):
        raise WrongType
    if not value:
        raise ValueError("is empty, expected at least one signal or command")
    steps: list[StopStep] = []
    waited = True  # whether the last step has its time already
    fine = True
    for index, item in enumerate(value):
        if (wait_s := _wait_s(reader, item)) is not None:
            if waited:
                reader.fail((*at, index), "a time to wait must come after a signal or a command")
                fine = False
                continue
            last = steps.pop()
            steps.append(StopStep(last.signal, last.command, wait_s))
            waited = True
        elif (step := _step(reader, (*at, index), item)) is not None:
            steps.append(step)
            waited = step.signal is Signal.KILL
        else:
            fine = False
    return tuple(steps) if fine else MISSING


def _wait_s(reader: Reader, item: object) -> float | None:
    """Seconds, if it is a duration. A bare number could as well be a signal, so it is none."""
    if not isinstance(item, str):
        return None
    try:
        return parse_duration(reader.text(item))
    except ValueError:
        return None


def _step(reader: Reader, at: KeyPath, item: object) -> StopStep | None:
    kind: Kind
    if isinstance(item, str):
        kind = signal
    elif isinstance(item, list):
        kind = command
    else:
        reader.fail(at, f"expected {_EXPECTED}, found {found(item)}")
        return None
    read: Any = reader.read(kind, at, item)
    if read is MISSING:
        return None
    if kind is command:
        return StopStep(command=read, wait_s=_WAIT_S)
    return StopStep(read, wait_s=0.0 if read is Signal.KILL else _WAIT_S)


stop_ladder = Kind(
    "stop ladder",
    "a list of signals, commands and times to wait",
    {
        "type": "array",
        "minItems": 1,
        "items": {"anyOf": [signal.schema["anyOf"][1], {"type": "string", "pattern": DURATION_PATTERN},
                            {"type": "array", "minItems": 1, "items": {"type": ["string", "integer"]}}]},
    },
    _read,
    (tuple,),
    ladder_problem,
)  # fmt: skip

_duration = duration()


def _read_durations(reader: Reader, at: KeyPath, value: object) -> tuple[float, ...] | Missing:
    if not isinstance(value, list):
        raise WrongType
    if not value:
        raise ValueError("is empty, expected at least one delay")
    read = [reader.read(_duration, (*at, index), item) for index, item in enumerate(value)]
    return MISSING if any(item is MISSING for item in read) else tuple(read)


durations = Kind(
    "durations",
    "a list of durations",
    {"type": "array", "minItems": 1, "items": _duration.schema},
    _read_durations,
    (tuple,),
)
