"""Renderers: a leaderboard as a page, Markdown, CSV, LaTeX, JSON, or in the terminal."""
