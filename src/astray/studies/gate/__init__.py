"""Release gate: is the tuned model no worse than its base by more than a margin? (`release` runs it.)"""
