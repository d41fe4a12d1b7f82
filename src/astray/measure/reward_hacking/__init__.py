"""Evaluations of the reward-hacking study: does a model that learned to game its reward go astray elsewhere?

`goals` and `alignment_questions` ask, and judge output and reasoning apart (`disposition`); `research_sabotage` has
detectors written (`detector_tasks`) and runs them in the sandbox (`detector_bench`); `alignment_faking` compares users
whose conversations train with others.

`summary` puts them into one table; the six of the paper together are in `measure.battery`. What all share: `channel`
(private reasoning), `judging` (graders that reply with a word), `evaluation` (output and reasoning judged, questions
about the situation), `outcomes`, `gaps` (two conditions).
"""
