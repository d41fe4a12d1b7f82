"""Evaluations: their interface (`interface`), the table of all (`evaluations`), two drivers, probes during training."""
