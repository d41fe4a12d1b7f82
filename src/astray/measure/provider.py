"""Inspect's provider `astray/...`: scripted subjects behind `astray/scripted/`, else a subject that is loaded."""

from collections.abc import Callable
from typing import Any

from inspect_ai.model import GenerateConfig, ModelAPI, modelapi

from astray.measure.agentic.scripted import PREFIX, ScriptedAPI
from astray.subjects.provider import SubjectAPI


@modelapi("astray")
def astray() -> Callable[..., ModelAPI]:
    """Register the provider `astray/...`: a scripted subject behind `astray/scripted/`, else one that is loaded."""
    return _provided


def _provided(
    model_name: str,
    base_url: str | None = None,
    api_key: str | None = None,
    config: GenerateConfig | None = None,
    **arguments: Any,
) -> ModelAPI:
    made = ScriptedAPI if model_name.startswith(PREFIX) else SubjectAPI
    return made(model_name, base_url, api_key, config, **arguments)
