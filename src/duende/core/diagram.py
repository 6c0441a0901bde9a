"""The lifecycle for readers: docs/reference/lifecycle.md, made from TABLE, so that it can't say anything else.

`python -m duende.core.diagram > docs/reference/lifecycle.md` writes it; a test says when that was forgotten.
"""

from __future__ import annotations

from duende.core.events import Event
from duende.core.lifecycle import TABLE
from duende.model.status import DaemonStatus

__all__ = ["lifecycle_page", "state_diagram", "transition_table"]

_INTRODUCTION = """\
# The life of a daemon

Made from the table in `src/duende/core/lifecycle.py` by `python -m duende.core.diagram`; do not edit.

The diagram shows every way from one status to another. The table below it also has the events that leave the status as
it is and do something else, such as counting, signalling or remembering what was asked. A pair of status and event that
is in neither does nothing at all, save that in every status `PolicyChanged` replaces the rules, and `SlotPassed` is
noted.
"""

_MEANINGS = {
    DaemonStatus.CREATED: "Known from the configuration; nothing of it has run yet.",
    DaemonStatus.STARTING: "An incarnation was asked for and is not ready yet.",
    DaemonStatus.RUNNING: "Executed and ready.",
    DaemonStatus.PAUSED: "Held by SIGSTOP.",
    DaemonStatus.STOPPING: "Told to stop, or to be told as soon as it exists; still there.",
    DaemonStatus.STOPPED: "Nothing runs: stopped on request, or completed.",
    DaemonStatus.BACKOFF: "It ended; the next try has a time.",
    DaemonStatus.FAILED: "duende gave up on it, and says why.",
}


def lifecycle_page() -> str:
    """The whole page as Markdown."""
    meanings = "\n".join(f"- **{status.value}**: {_MEANINGS[status]}" for status in DaemonStatus)
    parts = [_INTRODUCTION, "```mermaid", state_diagram(), "```", "", "## What each status means", "", meanings, ""]
    parts += ["## What each event means", "", _event_list(), "", "## Every transition", "", transition_table()]
    return "\n".join(parts) + "\n"


def state_diagram() -> str:
    """The changes of status as a mermaid state diagram, one line for each pair of statuses."""
    arrows: dict[tuple[DaemonStatus, DaemonStatus], list[str]] = {}
    for (status, event), row in TABLE.items():
        for target in DaemonStatus:
            if target in row.leads_to and target is not status:
                arrows.setdefault((status, target), []).append(event.__name__)
    lines = ["stateDiagram-v2", f"    [*] --> {DaemonStatus.CREATED.value}"]
    for source in DaemonStatus:
        for target in DaemonStatus:
            if (source, target) in arrows:
                lines.append(f"    {source.value} --> {target.value}: {', '.join(arrows[source, target])}")
    return "\n".join(lines)


def transition_table() -> str:
    """Every row of TABLE as a Markdown table, with the targets in the order of the statuses."""
    lines = ["| Status | Event | Leads to |", "|---|---|---|"]
    for (status, event), row in TABLE.items():
        targets = ", ".join(target.value for target in DaemonStatus if target in row.leads_to)
        lines.append(f"| {status.value} | {event.__name__} | {targets} |")
    return "\n".join(lines)


def _event_list() -> str:
    return "\n".join(f"- **{event.__name__}**: {event.__doc__}" for event in Event.__args__)


if __name__ == "__main__":
    print(lifecycle_page(), end="")
