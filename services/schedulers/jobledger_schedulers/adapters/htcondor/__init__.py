"""HTCondor: runs are jobs of an access point's queue, reached through HTCondor's own bindings in a child process."""
