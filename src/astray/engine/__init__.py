"""What a study is and how one is run: arms, seeds, evaluations, claims. Knows no paper; every study goes through it."""
