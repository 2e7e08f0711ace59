"""The only owner of the database."""
