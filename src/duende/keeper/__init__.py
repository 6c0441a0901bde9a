"""The keeper: the small process that is the parent of every native instance.

It stands alone: standard library only, no import of the rest of duende, so that nothing but its own three files can be
a reason to change it. `wire` is how one talks to it, `child` is what happens between fork and exec, `__main__` is the
loop.
"""
