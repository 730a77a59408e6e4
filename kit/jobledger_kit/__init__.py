"""Plumbing that Jobledger's services share: log, projector, reactor, HTTP, access."""
