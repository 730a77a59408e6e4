"""Jobledger's events, the pure fold that judges them, and the schemas others rely on."""
