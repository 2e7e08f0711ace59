"""What a leaderboard is made of: rows, columns, order and grouping."""
