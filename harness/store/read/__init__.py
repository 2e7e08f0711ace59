"""Reading: what is recorded, as frames, summaries and lists."""
