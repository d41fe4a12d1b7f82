"""Deception: an inner prompt asks what is so, an outer one asks under pressure for reasoning and an output, and a judge
compares (DeceptionBench).

`scenarios` is what is asked, the package's own and the published form; `judging` compares; `evaluation` is the
evaluation, `task` its Inspect task. Words and measures are those of `measure.honesty`: a lie is here an output that
deceives.
"""
