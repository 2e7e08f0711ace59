"""Where jobs run: in this process, or in a process per worker."""
