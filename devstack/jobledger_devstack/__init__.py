"""A whole Jobledger on one machine, out of real parts."""
