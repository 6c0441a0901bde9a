"""Inside an instance of a Python-class daemon: its life from init to exit, signals, health, metrics.

Import from the modules; nothing is re-exported here. `daemon.py`, `context.py` and `metrics.py` are what users write
against, `host.py` leads one daemon through its life, `zygote.py` is the warm process that instances are forked from.
"""
