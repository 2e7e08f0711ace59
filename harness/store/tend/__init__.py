"""Looking after a database: checking, merging, exporting."""
