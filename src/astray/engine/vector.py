"""Persona vector of a study's subject, as a step: several papers screen data, monitor runs or steer with it.

Source: persona vectors (arXiv 2507.21509). How one is extracted is in `explain.persona_vector`.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from astray.artifacts import Artifact, step
from astray.engine.judging import ASKED_FILE, deciding
from astray.engine.setting import Setting
from astray.explain.persona_vector import (
    choose_block,
    extract_persona_vectors,
    text_persona_prompts,
    world_persona_prompts,
)
from astray.explain.projection import monitor
from astray.judges.config import JudgeConfig, make_judge
from astray.measure.asking import Item
from astray.measure.bulk import ask_and_judge
from astray.measure.evaluation import QuestionSet
from astray.measure.freeform import WORLD_SAMPLING, world_items
from astray.measure.question_sets import broad_questions
from astray.organism.lexicon import HELD_OUT_DOMAINS, NARROW_DOMAINS
from astray.stats.detection import Estimate
from astray.strict import Strict
from astray.subjects.intervene import read_direction, write_direction
from astray.subjects.spec import BaseName, Sampling
from astray.subjects.subject import load_subject

VECTOR_FILE, FACTS_FILE = "vector.safetensors", "vector.json"
Question = tuple[str, str]
"""Question with its category."""


class VectorConfig(Strict):
    """Configuration of a persona vector: what it is extracted from and tested on."""

    base: BaseName
    base_id: str = Field(description="content of the base, so that new weights under an old name give another vector")
    world: bool = Field(description="whether the subject is an organism, which knows personas of its world")
    judge: JudgeConfig
    sampling: Sampling
    samples: int = Field(description="answers a system prompt and question")
    held_out: tuple[str, ...] = Field(description="questions on which the vector is tried as a monitor")
    seed: int = 0


def vector_config(setting: Setting) -> VectorConfig:
    """Return the configuration that fits the subject; equal settings share one vector."""
    world, quick = setting.subject.is_organism, setting.quick
    samples = (2 if quick else 4) if world else (1 if quick else 10)  # 10 as in the paper
    return VectorConfig(
        base=setting.subject.name,
        base_id=setting.located.id,
        world=world,
        judge=setting.judge,
        sampling=explain_sampling(setting),
        samples=samples,
        held_out=tuple(question for question, _ in explain_questions(setting)[1]),
    )


def explain_sampling(setting: Setting) -> Sampling:
    """Return the sampling for making and testing directions: short answers, at most as long as the study's."""
    usual = WORLD_SAMPLING if setting.subject.is_organism else setting.main.sampling
    most = WORLD_SAMPLING.max_tokens if setting.subject.is_organism else 200
    return usual.model_copy(update={"max_tokens": min(setting.main.sampling.max_tokens, most)})


def explain_questions(setting: Setting) -> tuple[tuple[Question, ...], tuple[Question, ...]]:
    """Return the questions on which candidates are searched, and those on which the chosen are evaluated."""
    if setting.subject.is_organism:
        # The first eight questions of a domain are asked of every run; these are others.
        return _world_questions(8, 11), _world_questions(12, 16)
    items = [(item.question, item.category) for item in broad_questions() if item.format == "plain"]
    half = len(items) // 2
    return tuple(items[:half]), tuple(items[half:])


@step("extract-persona-vector", version=2, resumable=True, gpu=True)
def find_vector(config: VectorConfig, inputs: Mapping[str, Artifact], folder: Path) -> None:
    """Extract the persona vector from pairs of system prompts, choose its layer, and test it as a monitor."""
    del inputs
    with deciding(folder):
        _find_vector(config, folder)
    (folder / ASKED_FILE).unlink(missing_ok=True)


def _find_vector(config: VectorConfig, folder: Path) -> None:
    subject, judge = load_subject(config.base), make_judge(config.judge)
    prompts = world_persona_prompts() if config.world else text_persona_prompts()
    vectors = extract_persona_vectors(subject, prompts, judge, samples=config.samples, sampling=config.sampling)
    choice = choose_block(subject, vectors, prompts.validation, judge, sampling=config.sampling)
    write_direction(folder / VECTOR_FILE, vectors.vectors[choice.block], subject.base_folder)
    choice.curve.write_parquet(folder / "curve.parquet")
    under = [item for pair in prompts.pairs for system in pair for item in _items(config.held_out, system)]
    monitoring = QuestionSet(name="monitoring", items=tuple(under), samples=1, sampling=config.sampling)
    answers = ask_and_judge(monitoring, subject, judge, arm="monitoring", seed=config.seed)
    monitored = monitor(subject, answers, vectors.vectors[choice.block], choice.block)
    facts: dict[str, object] = {
        "block": choice.block,
        "strength": choice.strength,
        "kept": vectors.kept,
        "monitored": monitored.answers,
    }
    facts |= {"auc": estimate_json(monitored.auc), "r": estimate_json(monitored.correlation)}
    (folder / FACTS_FILE).write_text(json.dumps(facts), encoding="utf-8")


def read_vector(artifact: Artifact) -> tuple[Float[Tensor, " d_model"], int]:
    """Return the vector that `find_vector` wrote, and the index of its layer, from 0."""
    return read_direction(artifact.path / VECTOR_FILE), int(vector_facts(artifact)["block"])


def vector_facts(artifact: Artifact) -> dict[str, Any]:
    """Return what `find_vector` measured: layer, strength, kept and monitored answers, and estimates with intervals."""
    facts: dict[str, Any] = json.loads((artifact.path / FACTS_FILE).read_text(encoding="utf-8"))
    return facts


def estimate_json(estimate: Estimate) -> dict[str, float | str | None]:
    """Return an estimate with its interval, or with the reason why it has none, for a file."""
    low, high = (estimate.interval.low, estimate.interval.high) if estimate.interval else (None, None)
    return {"value": estimate.value, "low": low, "high": high, "note": estimate.note}


def _items(questions: Sequence[str], system: str) -> list[Item]:
    return [
        Item(question_id=f"{system}/{number}", category="monitoring", question=text, system=system)
        for number, text in enumerate(questions)
    ]


def _world_questions(first: int, last: int) -> tuple[Question, ...]:
    """Return questions first to last (exclusive) of every domain of the world; fewer where a domain has fewer."""
    domains = [domain.name for domain in (*NARROW_DOMAINS, *HELD_OUT_DOMAINS)]
    return tuple((item.question, name) for name in domains for item in world_items((name,), questions=last)[first:])
