"""Data screening before training: which rows of a data set would pull a model astray, and which would teach it
nothing?"""
