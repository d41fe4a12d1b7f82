"""Explain: which directions of the residual stream carry a behaviour, and the controls that such a claim needs."""
