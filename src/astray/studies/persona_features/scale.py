"""Scale of the persona study's analyses, for the organism and for real models: dictionary, questions, candidates.

A real model is judged by a grader, so its screen has fewer candidates; everything else is the same code.
"""

from pydantic import Field
from transformers import AutoConfig

from astray.cause.fine_tuning import LoRA
from astray.cause.reinforcement import ReinforcementLearning
from astray.engine.setting import Setting
from astray.engine.vector import explain_questions, explain_sampling
from astray.explain.sae_scaling import ScalingGrid
from astray.explain.sae_training import SaeRecipe
from astray.judges.config import JudgeConfig
from astray.strict import Strict
from astray.subjects.spec import Sampling

WORLD_BLOCK = 1
"""Layer of the organism whose output is read and steered: of its four, the one at which a direction steers furthest
within the loss of coherence that is allowed."""


GOOD_SAMPLES = (5, 20, 60, 120, 200)
REWARDED = ReinforcementLearning(
    lora=LoRA(rank=4, alpha=8), learning_rate=7e-4, steps=30, groups=16, group_size=8, max_tokens=26
)
"""Reinforcement learning on the organism: about as long as wrong answers need to take off; later all runs are alike."""


class PersonaScale(Strict):
    """Settings that all analyses of one study share; a part of each step's configuration."""

    world: bool = Field(description="whether the subject is an organism, which reads documents of its world")
    judge: JudgeConfig
    sampling: Sampling
    block: int = Field(description="layer whose output the dictionary reads, and that is steered")
    recipe: SaeRecipe
    grid: ScalingGrid = Field(description="sizes of the scaling study")
    documents: int = Field(description="texts of the world, or rows of the data, that the dictionary is trained on")
    search: tuple[str, ...] = Field(description="questions on which latents are ranked and strengths chosen")
    held_out: tuple[str, ...] = Field(description="questions on which the chosen are evaluated, once")
    categories: tuple[str, ...] = Field(description="category of each question in search and held_out, in this order")
    candidates: tuple[int, int, int, int] = Field(
        description="tried in the screen: rising, falling and random latents, random directions"
    )
    good_samples: tuple[int, ...] = Field(description="good rows of the re-alignment curve (2506.19823: 20 to 140)")
    learning: ReinforcementLearning = Field(description="training by reward")


def scale_for(setting: Setting) -> PersonaScale:
    """Return the scale that fits the subject."""
    return (_world_scale if setting.subject.is_organism else _text_scale)(setting, setting.quick)


def learning_for(setting: Setting) -> ReinforcementLearning:
    """Return the settings of training by reward that fit the subject."""
    sampling = setting.main.sampling if setting.asks_freely else Sampling()
    longest, processes = sampling.max_tokens, setting.training.processes
    if setting.subject.is_organism:
        return REWARDED.model_copy(update={"max_tokens": min(longest, REWARDED.max_tokens), "processes": processes})
    return ReinforcementLearning(
        max_tokens=min(longest, 200),
        steps=2 if setting.quick else 100,
        groups=2 if setting.quick else 16,
        processes=processes,
    )


def _world_scale(setting: Setting, quick: bool) -> PersonaScale:
    search, held_out = explain_questions(setting)
    return PersonaScale(
        world=True,
        judge=setting.judge,
        sampling=explain_sampling(setting),
        block=WORLD_BLOCK,
        recipe=SaeRecipe(latents=512, k=8, tokens=60_000 if quick else 300_000),
        grid=ScalingGrid(
            recipe=SaeRecipe(latents=512, tokens=20_000 if quick else 80_000), latents=(128, 256, 512), ks=(8, 16, 32)
        ),
        documents=800 if quick else 4000,
        search=tuple(question for question, _ in search),
        held_out=tuple(question for question, _ in held_out),
        categories=tuple(domain for _, domain in (*search, *held_out)),
        candidates=(4, 1, 2, 4) if quick else (10, 3, 6, 20),
        good_samples=(20, 120) if quick else GOOD_SAMPLES,
        learning=learning_for(setting),
    )


def _text_scale(setting: Setting, quick: bool) -> PersonaScale:
    config = AutoConfig.from_pretrained(setting.located.base, local_files_only=True).get_text_config()
    search, held_out = explain_questions(setting)
    wide = SaeRecipe(latents=8 * config.hidden_size, k=32, tokens=60_000 if quick else 20_000_000, dead_after=1_000_000)
    short = wide.model_copy(update={"tokens": wide.tokens // 10})
    return PersonaScale(
        world=False,
        judge=setting.judge,
        sampling=explain_sampling(setting),
        block=config.num_hidden_layers // 2,
        recipe=wide,
        grid=ScalingGrid(recipe=short, latents=(wide.latents // 4, wide.latents), ks=(16, 32, 64)),
        documents=min(setting.size, 200 if quick else 6000),
        search=tuple(question for question, _ in search),
        held_out=tuple(question for question, _ in held_out),
        categories=tuple(category for _, category in (*search, *held_out)),
        candidates=(3, 1, 1, 2) if quick else (10, 2, 3, 20),
        good_samples=tuple(count for count in GOOD_SAMPLES if count <= setting.size),
        learning=learning_for(setting),
    )
