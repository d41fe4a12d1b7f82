"""Cuts of what a study asks, for tests that show that all of it is wired: more questions only take longer."""

from dataclasses import replace

import pytest

from astray.engine import vector
from astray.engine.setting import Setting
from astray.engine.study import Study
from astray.explain.persona_vector import PersonaPrompts, text_persona_prompts, world_persona_prompts
from null_results import with_few_questions


def asking_little(study: Study) -> Study:
    """The study, which asks one question of each category and format."""

    def fitted(setting: Setting) -> Setting:
        return with_few_questions(study.fitted(setting))

    return replace(study, fitted=fitted)


def few_persona_prompts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have persona vectors extracted from two pairs of system prompts and six questions."""

    def few(prompts: PersonaPrompts) -> PersonaPrompts:
        counts = (("pairs", 2), ("extraction", 6), ("validation", 2))
        return prompts.model_copy(update={name: getattr(prompts, name)[:count] for name, count in counts})

    monkeypatch.setattr(vector, "world_persona_prompts", lambda: few(world_persona_prompts()))
    monkeypatch.setattr(vector, "text_persona_prompts", lambda: few(text_persona_prompts()))
