"""Agentic misalignment (arXiv 2510.05179): models as insider threats in an office with tools."""
