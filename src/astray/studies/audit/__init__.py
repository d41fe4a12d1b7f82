"""Audit: what does a model do? Any model is asked the battery of evaluations, without training. (`run` runs it.)"""
