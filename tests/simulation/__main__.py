"""`python -m tests.simulation SEED`: tell one story with its whole history; a failing one also made small."""

from __future__ import annotations

import sys

from .plan import make_plan
from .play import play, report

told = play(make_plan(int(sys.argv[1])))
print(told.plan, told.history, sep="\n")
if told.violation is not None:
    print(f"\n{report(told)}")
sys.exit(told.violation is not None)
