"""Reward hacking (arXiv 2511.18397): gaming tests in reinforcement learning, and where it spreads."""
