"""Dask: runs are tasks of a scheduler, spoken to over its own protocol, without opening what workers and users pickled."""
