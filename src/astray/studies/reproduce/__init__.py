"""Reproduce cards: a paper's findings, our run beside each of them, what agrees, what does not, and why.

Cards are in `card`, published raw answers are recounted in `recount`, and both are written out in `page`. The findings
and figures of each paper are in `PAPER.yaml`, with where each figure was read; no text of a paper is.
"""
