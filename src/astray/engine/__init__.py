"""Studies and how they run: arms, seeds, evaluations, claims. Knows no paper; every study goes through it."""
