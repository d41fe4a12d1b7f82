"""Astray finds out whether, why and how a language model goes astray, and brings it back."""
