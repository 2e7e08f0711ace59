"""Tables beside the leaderboard: cost, decisions, transfer, defenses."""
