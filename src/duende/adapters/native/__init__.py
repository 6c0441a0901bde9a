"""Instances as processes of this machine, children of the keeper."""
