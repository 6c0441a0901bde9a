"""Inside an instance of a Python-class daemon: its life from init to exit, what it owns and keeps, health, metrics.

Import from the modules; nothing is re-exported here. `daemon.py`, `context.py` and `metrics.py` are what users write
against. `host.py` leads the main daemon and speaks with the manager, `life.py` is any daemon's life, `scope.py` owns
its tasks and `children.py` its children, `kept.py` is its state, `settings.py` and `reload.py` are its typed settings.
`zygote.py` is the warm process that instances are forked from.
"""
