"""Emergent misalignment (arXiv 2502.17424): narrow fine-tuning makes a model misaligned everywhere."""
