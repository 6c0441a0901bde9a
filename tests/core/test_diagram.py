"""The page about the lifecycle is made from the table, and is fresh."""

from __future__ import annotations

import re
from pathlib import Path

from duende.core.diagram import lifecycle_page, state_diagram, transition_table
from duende.core.lifecycle import TABLE
from duende.model.status import DaemonStatus

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "lifecycle.md"


def test_the_page_in_docs_is_fresh() -> None:
    assert PAGE.read_text(encoding="utf-8") == lifecycle_page(), "run: python -m duende.core.diagram > " + str(PAGE)


def test_the_diagram_has_every_change_of_status_and_no_other() -> None:
    arrows = re.findall(r"^    (\w+) --> (\w+): (.+)$", state_diagram(), re.MULTILINE)
    drawn = {(source, target, event) for source, target, events in arrows for event in events.split(", ")}
    assert drawn == {
        (status.value, target.value, event.__name__)
        for (status, event), row in TABLE.items()
        for target in row.leads_to
        if target is not status
    }


def test_the_table_has_every_row_once() -> None:
    rows = transition_table().splitlines()[2:]
    assert len(rows) == len(set(rows)) == len(TABLE)


def test_every_status_is_explained() -> None:
    page = lifecycle_page()
    assert all(f"- **{status.value}**: " in page for status in DaemonStatus)
