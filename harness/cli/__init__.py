"""The command line: what is typed, and how its answers are drawn."""
