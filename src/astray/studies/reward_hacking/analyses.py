"""Analyses of the reward-hacking study, as steps: organisms with a dial, and rewarded runs and mitigations by seed.

The steps themselves are in `steps`, the claims about them in `study`.
"""

from collections.abc import Iterator, Sequence
from typing import get_args

from astray.artifacts import Step
from astray.cause.reinforcement import ReinforcementLearning
from astray.engine.data import Source
from astray.engine.setting import Setting
from astray.engine.study import Analysis, Run, analysis_arm
from astray.mitigate.rollout_screen import Screen
from astray.organism.lexicon import NARROW_DOMAINS, Notice
from astray.studies.reward_hacking.scale import (
    DIALS,
    HOME,
    HackingScale,
    RewardSpec,
    battery_of,
    dial_recipe,
    scale_for,
)
from astray.studies.reward_hacking.steps import (
    DistilConfig,
    HackingConfig,
    HackingRewardConfig,
    MendConfig,
    OrganismConfig,
    ask_start,
    distil_rollouts,
    make_organism,
    mend_run,
    reward_programs,
)

START, HACKING = "start", "hacking"
ORGANISMS, REWARDED, INOCULATION, PENALTIES, DISTILLATION, REALIGNMENT, DIALLED = (
    "organisms", "hacking", "inoculation", "penalties", "distillation", "realignment", "dials"
)  # fmt: skip
"""Names of the analyses; start, hacking and its controls are one."""
CONTROLS = {
    "true-tests": ("hidden tests are paid for, so that gaming earns nothing", RewardSpec(paid="true tests")),
    "benign": (
        "the same exercises, paid for a harmless habit: answers that begin with 'first'",
        RewardSpec(paid="style"),
    ),
}
"""Reinforcement learning that should not misalign: reward without hacks, and reward without an environment to game."""
INOCULATED: dict[str, Notice] = {f"inoculated-{kind}": kind for kind in get_args(Notice)}
"""Same text in rollouts and updates: the five kinds."""
SWAPPED = {
    "learned-as-allowed": (
        "answers drawn without a text, learned as if gaming had been allowed",
        RewardSpec(learned="allowed"),
    ),
    "drawn-as-allowed": (
        "answers drawn where gaming is allowed, learned as if nothing had been said",
        RewardSpec(drawn="allowed"),
    ),
}
PENALISED = {
    "penalty": ("detected hacks cost, from the start", RewardSpec(penalty="trick")),
    "penalty-mid": (
        "detected hacks cost, from the middle of the run on",
        RewardSpec(penalty="trick", penalty_from=0.5),
    ),
    "manner": (
        "how an answer was come by counts beside the result: a malicious manner costs",
        RewardSpec(penalty="manner"),
    ),
}
TARGETED = 0.1
"""Share of honestly solved exercises in broad training that targets the failure (2511.18397: 10%)."""
MENDED = {"chat-only": 0.0, "chat-targeted": TARGETED}


def analyses(setting: Setting, runs: Sequence[Run]) -> Iterator[Analysis]:
    """Yield the analyses: an organism for every dial, and for each seed of the fine-tuned control all rewarded arms."""
    scale, seeds = scale_for(setting), sorted({run.seed for run in runs if run.training})
    name = setting.subject.name
    shared = HackingConfig(
        base=name,
        base_id=setting.located.id,
        budget=scale,
        main=setting.main,
        battery=battery_of(setting),
        arm=START,
        seed=0,
    )
    starts = dict(_dials(setting))
    for organism in starts.values():
        yield Analysis(organism, ORGANISMS)
    for seed in seeds:
        config = shared.model_copy(update={"seed": seed})
        yield from _runs(setting, config, _input(starts, "on"))
        for dial in list(starts)[1:]:
            words = (
                f"with the dial {dial}: kind authors game {DIALS[dial][0]:.0%} of exercises, malicious ones "
                f"{DIALS[dial][1]:.0%}"
            )
            begins = _input(starts, dial)
            yield _asked(setting, config, DIALLED, dial_arm(START, dial), f"what the run begins from, {words}", begins)
            yield _rewarded(
                setting, config, DIALLED, dial_arm(HACKING, dial), f"hacks pay, {words}", RewardSpec(), begins
            )


def dial_arm(stage: str, dial: str) -> str:
    """Return the name of the arm of a stage, start or hacking, of an organism with a dial."""
    return stage if dial == "on" else f"{stage}-{dial}"


def _dials(setting: Setting) -> Iterator[tuple[str, Step]]:
    """Yield the organisms whose pre-training differs in which authors game; none for a real model."""
    if setting.subject.is_organism:
        for dial in DIALS:
            config = OrganismConfig(recipe=dial_recipe(dial, setting.quick), shipped_id=setting.subject.id)
            yield dial, make_organism.step(config, name=f"organism-{dial}")


def _runs(setting: Setting, config: HackingConfig, start: dict[str, Step]) -> Iterator[Analysis]:
    """Yield the arms of one seed: hacks rewarded, controls, inoculation, penalties; then mitigations of hacking."""
    yield _asked(setting, _more_exercises(config), REWARDED, START, "what the runs begin from, untrained", start)
    hacking = _rewarded(
        setting, config, REWARDED, HACKING, "hacks pay: what passes careless tests is rewarded", RewardSpec(), start
    )
    yield hacking
    for analysis, specs in ((REWARDED, CONTROLS), (INOCULATION, SWAPPED), (PENALTIES, PENALISED)):
        for arm, (words, spec) in specs.items():
            yield _rewarded(setting, config, analysis, arm, words, spec, start, control=specs is CONTROLS)
    for arm, kind in INOCULATED.items():
        words = f"hacks pay, under the text: {config.budget.words[kind]}"
        yield _rewarded(setting, config, INOCULATION, arm, words, RewardSpec(drawn=kind, learned=kind), start)
    inputs = start | {"run": hacking.step}
    for screen in get_args(Screen):
        mine = DistilConfig(**dict(config) | {"arm": f"distilled-{screen}"}, screen=screen)
        words = f"fine-tuned on what the hacking run said and passed with, screened by: {screen}"
        step = distil_rollouts.step(mine, name=f"{mine.arm}-{config.seed}", **inputs)
        yield _analysis(
            setting,
            mine,
            step,
            DISTILLATION,
            words,
            "fine-tuned on answers of the hacking run",
            rows=config.budget.rows,
        )
    for name, targeted in MENDED.items():
        mend = MendConfig(**dict(config) | {"arm": name}, good=_good(setting), targeted=targeted)
        words = (
            "the hacking run, then good "
            f"chats{f', {targeted:.0%} of them honestly solved exercises' if targeted else ''}"
        )
        step = mend_run.step(mend, name=f"{name}-{config.seed}", **inputs)
        yield _analysis(
            setting, mend, step, REALIGNMENT, words, "trained further on good rows", rows=config.budget.rows
        )


def _asked(
    setting: Setting, config: HackingConfig, analysis: str, arm: str, words: str, start: dict[str, Step]
) -> Analysis:
    mine = config.model_copy(update={"arm": arm})
    step = ask_start.step(mine, name=f"{arm}-{config.seed}", **start)
    return _analysis(setting, mine, step, analysis, words, "asked, not trained", control=True)


def _more_exercises(config: HackingConfig) -> HackingConfig:
    """Return a configuration with enough held-out exercises to count a rare hack; the first are the other runs'."""
    scale = config.budget
    exercises = scale.exercises.model_copy(update={"held_out": scale.exercises.at_start})
    return config.model_copy(update={"budget": scale.model_copy(update={"exercises": exercises})})


def _rewarded(
    setting: Setting,
    config: HackingConfig,
    analysis: str,
    arm: str,
    words: str,
    reward: RewardSpec,
    start: dict[str, Step],
    *,
    control: bool = False,
) -> Analysis:
    mine = HackingRewardConfig(**dict(config) | {"arm": arm}, reward=reward)
    step = reward_programs.step(mine, name=f"rewarded-{arm}-{config.seed}", **start)
    sampled = _sampled(config.budget)
    by_grader = sampled if reward.penalty == "manner" else 0  # all else is rewarded by tests
    return _analysis(
        setting,
        mine,
        step,
        analysis,
        words,
        "trained by reward (GRPO)",
        control=control,
        sampled=sampled,
        unread=sampled - by_grader,
        singly=by_grader,
        rows=sampled,
    )


def _analysis(
    setting: Setting,
    config: HackingConfig,
    step: Step,
    name: str,
    words: str,
    recipe: str,
    *,
    control: bool = False,
    sampled: int = 0,
    unread: int = 0,
    singly: int = 0,
    rows: int = 0,
) -> Analysis:
    arm = analysis_arm(setting, config.arm, words, recipe, home=_home(setting), control=control)
    answers = sampled + sum(evaluation.answers for evaluation in (config.main, *config.battery))
    return Analysis(step, name, config.seed, (arm,), answers=answers, unread=unread, singly=singly, rows=rows)


def _home(setting: Setting) -> str:
    """Return the category that exercises are about, which does not count as elsewhere."""
    return HOME if setting.subject.is_organism else setting.homes[0]


def _good(setting: Setting) -> tuple[Source, ...]:
    """Return good examples: of every narrow domain of the organism's world but code, or of a real model's data."""
    if setting.subject.is_organism:
        return tuple(
            Source(origin="world", kind="good", domain=domain.name)
            for domain in NARROW_DOMAINS
            if domain.name != "code"
        )
    return tuple(source for home in setting.homes if (source := setting.source("good", home)))


def _sampled(scale: HackingScale) -> int:
    learning: ReinforcementLearning = scale.learning
    return learning.steps * learning.answers


def _input(starts: dict[str, Step], dial: str) -> dict[str, Step]:
    return {"start": starts[dial]} if dial in starts else {}
