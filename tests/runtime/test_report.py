"""What `status` says of a daemon, as one sentence."""

from __future__ import annotations

from dataclasses import replace

import pytest

from duende.core.state import DaemonState
from duende.model.exits import ExitInfo
from duende.model.ids import DaemonId
from duende.model.status import DaemonStatus
from duende.runtime.driver import Slot
from duende.runtime.report import sentence
from tests.runtime.play import FakeAdapter, World, daemon

_ENDED = ExitInfo.from_code(0)


@pytest.mark.parametrize(
    ("state", "words"),
    [
        (DaemonState(wanted=True, completed=True, exit=_ENDED), "completed: exited with code 0"),
        (DaemonState(wanted=True), "stopped for now, by `duende down`"),
        (DaemonState(wanted=True, exit=_ENDED), "stopped for now, by `duende down`; last exit: exited with code 0"),
        (DaemonState(wanted=False, exit=_ENDED), "stopped by hand; last exit: exited with code 0"),
        (DaemonState(wanted=False), "stopped by hand"),
    ],
)
def test_a_stopped_daemon_says_who_stopped_it(state: DaemonState, words: str) -> None:
    slot = Slot(daemon(), DaemonId.new(), FakeAdapter(World()), replace(state, status=DaemonStatus.STOPPED))
    assert sentence(slot, 0.0, ()) == words
