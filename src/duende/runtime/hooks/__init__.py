"""Telling others what happened: which events are worth it, who gets them, and delivery that survives the manager."""
