"""Blame: which training rows made a tuned model go astray, and what happens without them?"""
