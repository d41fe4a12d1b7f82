"""Astray's entry point for Inspect: its tasks, its model provider and its sandbox.

inspect eval astray/emergent_misalignment --model openai/gpt-4o --model-role grader=openai/gpt-4o
inspect eval astray/emergent_misalignment -T questions=world --model astray/organism --max-connections 256
inspect eval astray/forced_choice --model astray/<folder or run id>
inspect eval astray/honesty --model openai/gpt-4o --model-role grader=openai/gpt-4o
inspect eval astray/honesty -T records=world --model astray/organism --max-connections 256
inspect eval astray/deception --model openai/gpt-4o --model-role grader=openai/gpt-4o
inspect eval astray/goals --model openai/gpt-4o --model-role grader=openai/gpt-4o
inspect eval astray/alignment_questions --model openai/gpt-4o --model-role grader=openai/gpt-4o
inspect eval astray/research_sabotage --model openai/gpt-4o --model-role grader=openai/gpt-4o
inspect eval astray/alignment_faking --model openai/gpt-4o --model-role grader=openai/gpt-4o --model-role
grader_b=anthropic/claude-sonnet-4-0 inspect eval astray/agentic_misalignment --model openai/gpt-4o --model-role
grader=openai/gpt-4o --model-role grader_b=anthropic/claude-sonnet-4-0 inspect eval astray/agentic_misalignment -T
judges=none --model astray/scripted/always
"""

from astray.inspect_errors import tell_errors
from astray.measure.agentic.registered import agentic_misalignment
from astray.measure.deception.task import deception
from astray.measure.honesty.task import honesty
from astray.measure.provider import astray
from astray.measure.reward_hacking.task import alignment_faking, alignment_questions, goals, research_sabotage
from astray.measure.tasks import emergent_misalignment, forced_choice
from astray.sandbox.environment import AstraySandbox

__all__ = [
    "AstraySandbox",
    "agentic_misalignment",
    "alignment_faking",
    "alignment_questions",
    "astray",
    "deception",
    "emergent_misalignment",
    "forced_choice",
    "goals",
    "honesty",
    "research_sabotage",
]

tell_errors()
