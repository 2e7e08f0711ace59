"""Two recorded rows side by side, or one before and after."""
