"""Measure: what an evaluation is (`interface`), all of them by name (`evaluations`), their two drivers, and probes for a model in training."""
