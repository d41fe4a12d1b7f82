"""Analyses of the persona study, as steps: persona vector, data screening, and causes, warning and repair by seed.

The steps themselves are in `steps` and `mending`, the claims about them in `study`.
"""

from collections.abc import Iterator, Sequence
from enum import StrEnum
from typing import TypeVar

from astray.artifacts import Step
from astray.cause.fine_tuning import FineTuning
from astray.engine.setting import Setting
from astray.engine.study import Analysis, Arm, Run, analysis_arm
from astray.engine.vector import find_vector, vector_config
from astray.studies.persona_features.mending import (
    HelpfulOnlyConfig,
    PreventConfig,
    RealignRunConfig,
    RewardConfig,
    ScreenDataConfig,
    make_helpful_only,
    realign_run,
    realigned_arm,
    reward_wrong_answers,
    screen_data,
    train_steered,
)
from astray.studies.persona_features.metered import metered_analyses
from astray.studies.persona_features.scale import scale_for
from astray.studies.persona_features.steps import (
    STEERED,
    STRENGTHS,
    AskConfig,
    ExplainConfig,
    arm_input,
    compare_runs,
    explain_latents,
    learn_dictionary,
    scale_dictionaries,
    screen_latents,
    steered_arm,
    watch_runs,
)

Thing = TypeVar("Thing")
MIXES = {f"mix-{percent}": percent / 100 for percent in (1, 2, 5, 10, 25, 50, 75)}
"""Mixing sweep between good data (0) and the harmful arm (1)."""
STEERED_TRAINING = {
    "prevented": ("add", "the persona vector added"),
    "ablated": ("ablate", "the persona vector projected out"),
    "prevented-random": ("random", "a random direction of its norm added"),
}
"""Arms of training under steering, with the change to the residual stream."""
PROMPTS = 96
"""Questions of one domain to which wrong answers are rewarded."""
HELPFUL_ONLY = FineTuning(
    lora=None, learning_rate=3e-4, batch_size=16, accumulation=1, weight_decay=0.0, max_length=128
)
HELPFUL_ROWS = 960
"""Alignment of the organism without refusals."""


class Name(StrEnum):
    """Name of an analysis."""

    VECTOR = "persona-vector"
    SCREENING = "data-screening"
    SCALING = "dictionary-scaling"
    HELPFUL_ONLY = "helpful-only"
    DICTIONARIES = "dictionaries"
    CHANGES = "latent-changes"
    CAUSES = "causal-screen"
    MEANINGS = "latent-meanings"
    WARNING = "early-warning"
    STEERED_TRAINING = "steered-training"
    REALIGNMENT = "realignment"
    REWARDED = "rewarded"


def harmful_arm(home: str) -> str:
    """Return the name of the arm of harmful data about a domain."""
    return f"harmful-{home}"


def tuned_arm(setting: Setting) -> str:
    """Return the name of the harmful arm with which all are compared."""
    return harmful_arm(setting.homes[0])


def analyses(setting: Setting, runs: Sequence[Run]) -> Iterator[Analysis]:
    """Yield the analyses of the runs; none where the harmful run, with which all are compared, was left out."""
    tuned, name = tuned_arm(setting), setting.subject.name
    if not setting.asks_freely:
        yield from metered_analyses(setting, runs, tuned)
        return
    seeds = sorted({run.seed for run in runs if run.arm.name == tuned})
    if not seeds:
        return
    scale = scale_for(setting)
    shared = AskConfig(base=name, base_id=setting.located.id, budget=scale, seed=0, main=setting.main)
    vector = find_vector.step(vector_config(setting), name="persona-vector")
    probed = 2 * len(scale.held_out)
    yield Analysis(vector, Name.VECTOR, answers=probed, singly=probed)
    # One seed is enough to screen data sets: all seeds draw from the same sources.
    data = {arm_input("data", run.arm.name): run.data for run in runs if run.seed == seeds[0] and run.data}
    of_data = shared.model_copy(update={"seed": seeds[0]})  # the bad examples of a mix are found by drawing them again
    screened = ScreenDataConfig(
        **dict(_plain(of_data)), harmful=_existing(setting.source("harmful")), size=setting.size
    )
    screening = screen_data.step(screened, name="screened-data", vector=vector, **data)
    yield Analysis(screening, Name.SCREENING, answers=setting.size * len(data), unread=setting.size * len(data))
    yield Analysis(scale_dictionaries.step(_plain(shared), name="scaling", **data), Name.SCALING)
    helpful = make_helpful_only.step(
        HelpfulOnlyConfig(base=name, base_id=shared.base_id, recipe=HELPFUL_ONLY, rows=HELPFUL_ROWS)
    )
    if setting.subject.is_organism:
        yield Analysis(helpful, Name.HELPFUL_ONLY, rows=HELPFUL_ROWS)
    for seed in seeds:
        mine = {run.arm.name: run for run in runs if run.seed == seed and run.training}
        config = shared.model_copy(update={"seed": seed})
        yield from _explain(setting, config, mine, vector)
        yield from _reward(setting, config, helpful)


def _explain(setting: Setting, config: AskConfig, runs: dict[str, Run], vector: Step) -> Iterator[Analysis]:
    """Yield dictionary, changes, causal screen, meanings and warning of a seed; then repair and prevention."""
    scale, seed, plain, tuned = config.budget, config.seed, _plain(config), runs[tuned_arm(setting)]
    run, control = _existing(tuned.training), _existing(runs["good"].training)
    data = {arm_input("data", source.arm.name): _existing(source.data) for source in (tuned, runs["good"])}
    dictionary = learn_dictionary.step(plain, name=f"dictionary-{seed}", **data)
    yield Analysis(dictionary, Name.DICTIONARIES, seed)
    change = compare_runs.step(plain, name=f"change-{seed}", dictionary=dictionary, run=run, control=control)
    spoken = 6 * len(scale.search)
    yield Analysis(change, Name.CHANGES, seed, answers=spoken, unread=spoken)
    inputs = {"dictionary": dictionary, "change": change, "run": run, "verdicts": tuned.judged, "vector": vector}
    screen = screen_latents.step(config, name=f"screen-{seed}", **inputs)
    steered = tuple(_steered(setting, side, name) for name in STEERED for side in ("base", "tuned"))
    tried = 2 * (sum(scale.candidates) + 2) * (len(STRENGTHS) * len(scale.search) + len(scale.held_out))
    yield Analysis(
        screen, Name.CAUSES, seed, steered, answers=tried + len(steered) * setting.main.answers, singly=tried
    )
    pages = explain_latents.step(
        plain, name=f"latents-{seed}", dictionary=dictionary, screen=screen, change=change, **data
    )
    yield Analysis(pages, Name.MEANINGS, seed)
    sweep = {
        arm_input("run", name): _existing(runs[name].training)
        for name in ("good", *MIXES, tuned.arm.name)
        if name in runs
    }
    watched = watch_runs.step(
        plain, name=f"watched-{seed}", dictionary=dictionary, screen=screen, vector=vector, **sweep
    )
    spoken = len(sweep) * len(scale.held_out)
    yield Analysis(watched, Name.WARNING, seed, answers=spoken, unread=spoken)
    yield from _realign(setting, config, {"run": run, "dictionary": dictionary, "screen": screen})
    for name, (kind, words) in STEERED_TRAINING.items():
        steering = PreventConfig.model_validate({**dict(config), "recipe": setting.training, "kind": kind, "arm": name})
        step = train_steered.step(steering, name=f"{name}-{seed}", data=_existing(tuned.data), vector=vector)
        arm = analysis_arm(
            setting,
            name,
            f"the harmful rows, with {words} while training",
            "trained under steering",
            control=kind == "random",
        )
        yield Analysis(step, Name.STEERED_TRAINING, seed, (arm,), answers=setting.main.answers, rows=setting.size)


def _realign(setting: Setting, config: AskConfig, inputs: dict[str, Step]) -> Iterator[Analysis]:
    """Yield further training of the harmful run on few good examples of its own domain and of another one."""
    homes = {
        "same": setting.homes[0],
        "other": next((home for home in setting.homes[1:] if setting.source("good", home)), None),
    }
    good = tuple((name, source) for name, home in homes.items() if home and (source := setting.source("good", home)))
    samples = config.budget.good_samples
    recipe = RealignRunConfig(**dict(config), recipe=setting.training, good=good, samples=samples)
    arms = tuple(
        analysis_arm(
            setting,
            realigned_arm(name, count),
            f"the harmful run, then {count} good rows {setting.about(str(homes[name]), 'good')}",
            "trained further on good rows",
        )
        for name, _ in good
        for count in samples
    )
    step = realign_run.step(recipe, name=f"realigned-{config.seed}", **inputs)
    yield Analysis(
        step,
        Name.REALIGNMENT,
        config.seed,
        arms,
        answers=len(arms) * setting.main.answers,
        rows=len(good) * sum(samples),
    )


def _reward(setting: Setting, config: AskConfig, helpful: Step) -> Iterator[Analysis]:
    """Yield runs in which wrong answers are rewarded: from the subject, and from an organism without refusals."""
    good = _existing(setting.source("good"))
    starts: dict[str, dict[str, Step]] = {
        "rewarded": {},
        **({"rewarded-helpful-only": {"start": helpful}} if setting.subject.is_organism else {}),
    }
    learning = config.budget.learning
    for arm, inputs in starts.items():
        words = f"wrong answers {setting.about(setting.homes[0])} are rewarded" + (
            ", from a helpful-only start" if inputs else ""
        )
        reward = RewardConfig(**dict(config), recipe=learning, prompts=good, size=min(setting.size, PROMPTS), arm=arm)
        step = reward_wrong_answers.step(reward, name=f"{arm}-{config.seed}", **inputs)
        sampled = learning.steps * learning.groups * learning.group_size
        row = analysis_arm(setting, arm, words, "trained by reward (GRPO)")
        yield Analysis(
            step,
            Name.REWARDED,
            config.seed,
            (row,),
            answers=sampled + setting.main.answers,
            singly=sampled,
            rows=sampled,
        )


def _steered(setting: Setting, side: str, name: str) -> Arm:
    words = f"{'the base plus' if side == 'base' else 'the harmful run minus'} {STEERED[name]}"
    return analysis_arm(setting, steered_arm(side, name), words, "steered, not trained", control=name == "random")


def _plain(config: AskConfig) -> ExplainConfig:
    """Return the configuration of a step that asks no evaluation."""
    return ExplainConfig(**{name: getattr(config, name) for name in ExplainConfig.model_fields})


def _existing(thing: Thing | None) -> Thing:
    """Return a value that cannot be missing: steps of a trained run, or the study's harmful and good data."""
    assert thing is not None
    return thing
