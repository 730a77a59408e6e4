"""Jobledger's events, the pure fold that judges them, and the schemas others rely on.

Start with `job_events` (what can be said about a job), then `transitions` and `job` (what it does). `envelope` is how an event
travels. Nothing here does I/O, reads a clock or draws a random number.
"""
