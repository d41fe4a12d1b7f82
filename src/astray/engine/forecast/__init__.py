"""What a study would take, cost and could show, before anything is trained: `astray plan`."""
