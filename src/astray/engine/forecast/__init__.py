"""Forecast of what a study takes, costs and could show, before anything is trained: `astray plan`."""
