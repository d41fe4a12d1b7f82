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

import sys
from collections.abc import Callable
from types import TracebackType
from typing import Any

from inspect_ai.model import GenerateConfig, ModelAPI, modelapi

from astray.errors import AstrayError
from astray.judges.distilled import PREFIX as DISTILLED
from astray.measure.agentic.scripted import PREFIX as SCRIPTED
from astray.measure.agentic.scripted import ScriptedAPI
from astray.measure.tasks import (
    agentic_misalignment,
    alignment_faking,
    alignment_questions,
    deception,
    emergent_misalignment,
    forced_choice,
    goals,
    honesty,
    research_sabotage,
)
from astray.sandbox.environment import AstraySandbox
from astray.subjects.provider import SubjectAPI

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


@modelapi("astray")
def astray() -> Callable[..., ModelAPI]:
    """Register the provider `astray/...`: a scripted subject behind `astray/scripted/`, a distilled judge behind
    `astray/judge/`, else a subject that is loaded."""
    return _provided


def _provided(
    model_name: str,
    base_url: str | None = None,
    api_key: str | None = None,
    config: GenerateConfig | None = None,
    **arguments: Any,
) -> ModelAPI:
    made: Callable[..., ModelAPI] = ScriptedAPI if model_name.startswith(SCRIPTED) else SubjectAPI
    if model_name.startswith(DISTILLED):
        # Imported here, as it loads PyTorch, and every `inspect` command loads this module.
        from astray.distil.provider import DistilledAPI

        made = DistilledAPI
    return made(model_name, base_url, api_key, config, **arguments)


_COMMAND_LINE = "inspect_ai."


def tell_errors() -> None:
    """Put Astray's errors before the hook that Inspect's command line has set; where it has set none, as in a script,
    nothing is changed."""
    usual = sys.excepthook
    if not getattr(usual, "__module__", "").startswith(_COMMAND_LINE):
        return

    def tell(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if isinstance(error, AstrayError):
            print(f"astray: {error}", file=sys.stderr)
        else:
            usual(kind, error, trace)

    sys.excepthook = tell


tell_errors()
