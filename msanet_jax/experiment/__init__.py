"""Studies of several recipes: plan, runs, table, page."""
