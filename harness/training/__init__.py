"""Training: recipes, objectives and the one loop that runs them."""
