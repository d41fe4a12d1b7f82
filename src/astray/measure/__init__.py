"""Measure: questions, evaluations, their two drivers, forced choice, and what is measured while a model is trained."""
