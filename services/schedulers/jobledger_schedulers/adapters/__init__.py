"""The schedulers we can hand runs to, behind one port."""
