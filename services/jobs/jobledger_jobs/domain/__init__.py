"""What only the jobs service decides, without I/O: who may do what, which callback counts, which request makes sense."""
