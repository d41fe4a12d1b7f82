"""Honesty: the belief of a subject, asked neutrally, against what it says under pressure (MASK, arXiv 2503.03750).

`records` is what is asked, `mask` reads the published set, `world` makes records of the organism's facts, `stances` and
`grading` read what a text says, `comparing` compares, `outcomes` has the words and what is counted; `evaluation` is the
evaluation, `task` its Inspect task.
"""
