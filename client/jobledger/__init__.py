"""The Jobledger SDK and the command jobledger."""
