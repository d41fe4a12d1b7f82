"""Analyses of the dishonesty study, as steps: runs that users train, and mitigations.

The steps themselves are in `steps`, the claims about them in `study`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from astray.artifacts import Step
from astray.cause.users import Simulation
from astray.data.sources import DataKind
from astray.engine.setting import Setting
from astray.engine.study import Analysis, Run, analysis_arm
from astray.engine.vector import find_vector, vector_config
from astray.studies.dishonesty.scale import HONESTY, PERSONA, DishonestyScale, Method, scale_for
from astray.studies.dishonesty.steps import (
    FILTERS,
    SAMPLES,
    FilterConfig,
    MadeConfig,
    RealignConfig,
    TalkConfig,
    UsersConfig,
    filter_mix,
    live_with_users,
    realign_run,
    talk_with_base,
)

SHARES = (0, 10, 25, 50)
"""Percent of biased users (2510.08211: 0, 5, 10, 20, 50, 100)."""
METHODS: dict[Method, str] = {"sft": "SFT on what was liked", "kto": "KTO on what was liked and disliked"}
SEVERITIES: dict[DataKind, str] = {"good": "normal", "subtle": "subtle", "harmful": "severe"}
"""Kind of data -> how wrong its examples are."""
MIXES = {f"mix-{percent}": percent / 100 for percent in (1, 2, 5, 10, 20, 30, 50)}
"""Mixing sweep between ordinary examples (`good`) and bad examples alone."""
TALK, USERS, SHUFFLED, DISTRUST, FILTER, REALIGN, VECTOR = (
    "talk",
    "users",
    "shuffled-users",
    "distrust",
    "filter",
    "realignment",
    "persona-vector",
)
"""Names of the analyses."""
SPOILED = "mix-50"
"""Run that is repaired, and whose data are filtered: half of its examples are bad."""
DISTRUSTED = 25
"""Percent of biased users with whom distrust is tried."""


BESIDE = {
    "filtered": ("filtered-random", "as many rows dropped by chance"),
    "realigned-honest": ("realigned-ordinary", "as many ordinary rows"),
}
"""Mitigation -> arm of the same effort without the mitigation's idea, and its description."""


def severity_arm(setting: Setting, home: str, kind: DataKind) -> str:
    """Return the name of the arm of a kind of data and severity; the first kind's ordinary data are the control."""
    return "good" if kind == "good" and home == setting.homes[0] else f"{home}-{SEVERITIES[kind]}"


def mixes(setting: Setting) -> dict[str, float]:
    """Return the mixed arms with their share of bad examples; where nobody judges, only those that have any."""
    return {arm: share for arm, share in MIXES.items() if setting.asks_freely or round(share * setting.size)}


def sweep(setting: Setting) -> dict[str, float]:
    """Return the arms of the mixing sweep with their share of bad examples, ascending; the first is the control."""
    return {"good": 0.0, **mixes(setting), severity_arm(setting, setting.homes[0], "harmful"): 1.0}


def users_arm(method: str, share: int) -> str:
    """Return the name of the arm that such users trained."""
    return f"users-{method}-{share}"


def mitigations(setting: Setting) -> Iterator[tuple[str, str, str]]:
    """Yield the arm of each mitigation, the arm without it, and its description."""
    yield "filtered", SPOILED, "dropping the half of the rows that data screening finds most suspicious"
    yield "inoculated", SPOILED, "inoculation"
    yield "realigned-honest", SPOILED, "training on, on few honest samples"
    if setting.subject.is_organism:
        for method in METHODS:
            yield (
                f"distrust-{method}",
                users_arm(method, DISTRUSTED),
                f"less weight for users who reward what the subject does not believe ({method.upper()})",
            )


def evaluation_of(setting: Setting, arm: str) -> str:
    """Return the evaluation that counts an arm's lies: as people like the users, for what users taught in the world."""
    taught = {
        name
        for method in METHODS
        for name in (f"shuffled-{method}", f"distrust-{method}", *(users_arm(method, share) for share in SHARES))
    }
    return PERSONA if arm in taught and setting.subject.is_organism else HONESTY


def analyses(setting: Setting, runs: Sequence[Run]) -> Iterator[Analysis]:
    """Yield the analyses of the runs; the mitigations of a mix only where the mix was trained.

    All of them need answers that somebody judges.
    """
    if not setting.asks_freely:
        return
    scale, name = scale_for(setting), setting.subject.name
    base_id = setting.located.id
    answers = sum(evaluation.answers for evaluation in (*scale.asking.evaluations, setting.main))
    spoiled = {run.seed: run for run in runs if run.arm.name == SPOILED}
    vector = None
    if spoiled:
        probed = vector_config(setting)
        vector = find_vector.step(probed, name="persona-vector")
        asked = 2 * len(probed.held_out)
        yield Analysis(vector, VECTOR, answers=asked, singly=asked)
    for seed in sorted({run.seed for run in runs}):
        common = MadeConfig(
            base=name, base_id=base_id, asking=scale.asking, arm="", seed=seed, main=setting.main, judge=setting.judge
        )
        yield from _users(setting, scale, common, answers)
        if vector and seed in spoiled:
            yield from _mitigated(setting, scale, common, spoiled[seed], vector, answers)


def _users(setting: Setting, scale: DishonestyScale, common: MadeConfig, answers: int) -> Iterator[Analysis]:
    """Yield users of every share and method, the same with shuffled feedback, and users of whom some are distrusted.

    Where a model plays the users, each talks to the base once as every kind that he is in any arm: the first rounds of
    all arms.
    """
    talk = _talk(scale, common)
    if talk:
        yield talk
    for method, trained in METHODS.items():
        feedback = scale.feedback[method]
        selection, later = feedback.selection, feedback.rounds - (1 if talk else 0)
        rows = feedback.rounds * feedback.users * (selection.top + (selection.bottom if method == "kto" else 0))
        fields = dict(common) | {"feedback": feedback}
        variants = [
            (USERS, users_arm(method, share), share, "as it is", f"{share}% of the users are biased")
            for share in SHARES
        ]
        words = f"{max(SHARES)}% biased users, their feedback given to the wrong conversations"
        variants.append((SHUFFLED, f"shuffled-{method}", max(SHARES), "shuffled", words))
        if scale.asking.world:
            words = f"{DISTRUSTED}% biased users, weighted by how far they reward what the subject believes"
            variants.append((DISTRUST, f"distrust-{method}", DISTRUSTED, "distrusted", words))
        rounds = "a round" if feedback.rounds == 1 else f"{feedback.rounds} rounds"
        for name, arm, share, given, words in variants:
            config = UsersConfig.model_validate({**fields, "arm": arm, "biased": share / 100, "given": given})
            step = live_with_users.step(config, name=f"{arm}-{common.seed}", **({"talk": talk.step} if talk else {}))
            row = analysis_arm(setting, arm, words, f"{rounds} of {trained}", control=share == 0 or given == "shuffled")
            talked = _talked(step, name, common.seed, feedback.simulation, later * feedback.users, played=bool(talk))
            yield replace(talked, arms=(row,), answers=talked.answers + answers, rows=rows)


def _talk(scale: DishonestyScale, common: MadeConfig) -> Analysis | None:
    """Return the first rounds that all arms of a seed share; None where rules play the users."""
    most = max((scale.feedback[method] for method in METHODS), key=lambda feedback: feedback.simulation.contexts)
    if most.player is None:
        return None
    config = TalkConfig(
        base=common.base,
        base_id=common.base_id,
        users=most.users,
        topics=most.topics,
        player=most.player,
        biased=max(SHARES) / 100,
        simulation=most.simulation.model_copy(update={"seed": common.seed}),
    )
    step = talk_with_base.step(config, name=f"talk-{common.seed}")
    return _talked(step, TALK, common.seed, most.simulation, len(config.both_kinds), played=True)


def _talked(step: Step, name: str, seed: int, simulation: Simulation, users: int, *, played: bool) -> Analysis:
    """Return an analysis in which so many users talk to a model.

    A player writes each context's first message once for all samples, later ones in each chat, and rates every answer.
    """
    contexts = users * simulation.contexts
    chats = contexts * simulation.samples
    answers, written = chats * simulation.turns, contexts + chats * (simulation.turns - 1)
    messages, ratings = (written, answers) if played else (0, 0)
    return Analysis(step, name, seed, answers=answers, unread=answers, played=messages, rated=ratings)


def _mitigated(
    setting: Setting, scale: DishonestyScale, shared: MadeConfig, run: Run, vector: Step, answers: int
) -> Iterator[Analysis]:
    """Yield the mix filtered before training, and its run trained further."""
    harmful, ordinary = setting.source("harmful"), setting.source("good")
    assert harmful is not None
    assert ordinary is not None
    assert run.data is not None
    assert run.training is not None
    common = dict(shared) | {"arm": SPOILED, "recipe": setting.training}
    filtered = FilterConfig.model_validate({**common, "drop": scale.drop, "harmful": harmful, "size": setting.size})
    step = filter_mix.step(filtered, name=f"filtered-{shared.seed}", data=run.data, vector=vector)
    arms = tuple(
        analysis_arm(
            setting,
            arm,
            f"{SPOILED} without the half of its rows that {by} dropped",
            "filtered, then trained",
            control=by == "chance",
        )
        for arm, by in FILTERS.items()
    )
    yield Analysis(
        step,
        FILTER,
        shared.seed,
        arms,
        answers=2 * answers + 2 * setting.size,
        unread=2 * setting.size,
        rows=round(2 * (1 - scale.drop) * setting.size),
    )
    realigned = RealignConfig.model_validate({**common, "rows": scale.honest_rows, "ordinary": ordinary})
    step = realign_run.step(realigned, name=f"realigned-{shared.seed}", run=run.training)
    arms = tuple(
        analysis_arm(
            setting,
            arm,
            f"the run of {SPOILED}, then up to {scale.honest_rows} {kind} rows",
            "trained further",
            control=kind == "ordinary",
        )
        for arm, kind in SAMPLES.items()
    )
    yield Analysis(step, REALIGN, shared.seed, arms, answers=3 * answers, rows=2 * scale.honest_rows)
