"""Agentic scenarios: acts of an agent with tools whose goal or position is threatened (arXiv 2510.05179, 2511.18397).

The way of a sample: `factors` names a cell, `scenario` loads a folder, `render` makes the office of that cell, `agent`
lets a model work in it with `tools`, the acts that were executed are kept (`acts`), a deterministic gate (`gates`, the
scenario's scoring.py) and a panel of judges (`judging`) read them, `conduct` gives the one outcome, `table` makes rows
of a log. Nothing is imported here: Inspect takes over a second.
"""
