"""Reports: queries to frames to pages; a pure function of the database, without torch."""
