"""Emergent dishonesty (arXiv 2510.08211): little bad data and biased users make a model say what it does not
believe."""
