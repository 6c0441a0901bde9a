"""The pure core, by state in, event, state out; no clock, no sleep, no process."""
