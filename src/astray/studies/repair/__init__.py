"""Repair: the cheapest way back for a model that went astray, and what it costs of what the tuning was for."""
