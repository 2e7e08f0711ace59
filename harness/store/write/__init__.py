"""Writing: the job queue, and results as they come."""
