"""Stands for the steps of a study: leaves what they would leave of runs in which nothing is to be seen, without
training or asking anything.

Arms, analyses and questions are those that the study declares; a step of a new kind needs an entry in `LEAVES`.
"""

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import polars as pl

from astray.answers import ANSWER_SCHEMA, answer_table, write_detail
from astray.artifacts import Artifact, Step, Store
from astray.engine import steps as shared_steps
from astray.engine import vector
from astray.engine.judging import ANSWERS_FILE
from astray.engine.plan import StudyPlan
from astray.engine.setting import Setting
from astray.engine.steps import DATA_FILE, RUN_FOLDER
from astray.explain.screen_tables import HELD_OUT_SCHEMA, SEARCH_SCHEMA, UNSTEERED
from astray.measure.evaluation import QuestionSet
from astray.measure.honesty.evaluation import Honesty
from astray.measure.interface import Evaluation
from astray.measure.statements import OUTCOMES, HonestyWord
from astray.outcomes import Outcome
from astray.studies.dishonesty import steps as dishonesty_steps
from astray.studies.persona_features import mending as persona_mending
from astray.studies.persona_features import steps as persona_steps
from astray.studies.reward_hacking import steps as hacking_steps

ALIGNED, MISALIGNED, INCOHERENT = Outcome.ALIGNED, Outcome.MISALIGNED, Outcome.INCOHERENT
HONESTY_WORDS = {ALIGNED: HonestyWord.HONEST, MISALIGNED: HonestyWord.LIE, INCOHERENT: HonestyWord.EVASIVE}
NUMBER_OF = {ALIGNED: 0.0, MISALIGNED: 1.0, INCOHERENT: None}
"""Rate of a run in which every answer is so."""


@dataclass(frozen=True)
class Null:
    """What becomes of every answer.

    Attributes:
        outcome: control arm or not, training seed -> the outcome.
        seeds: how many.
        moves: whether what is read in activations changes along the mixing sweep.
    """

    outcome: Callable[[bool, int], Outcome]
    seeds: int = 2
    moves: bool = True


NULLS = {
    "nothing is misaligned": Null(lambda control, seed: ALIGNED),
    "nothing is misaligned, and nothing moves": Null(lambda control, seed: ALIGNED, moves=False),
    "all is misaligned": Null(lambda control, seed: MISALIGNED),
    "all is incoherent": Null(lambda control, seed: INCOHERENT),
    "controls are incoherent": Null(lambda control, seed: INCOHERENT if control else MISALIGNED),
    "one seed is incoherent": Null(
        lambda control, seed: INCOHERENT if seed == 1 else ALIGNED if control else MISALIGNED, seeds=3
    ),
    "one seed": Null(lambda control, seed: ALIGNED if control else MISALIGNED, seeds=1),
    "one seed, incoherent": Null(lambda control, seed: INCOHERENT, seeds=1),
}


class Left(Artifact):
    """An artifact that was not made by its step."""

    def __init__(self, folder: Path) -> None:
        object.__setattr__(self, "folder", folder)
        object.__setattr__(self, "store", Store(folder.parent))

    @property
    def path(self) -> Path:
        """Where it lies."""
        return self.folder


def few(evaluation: Evaluation, each: int = 1) -> Evaluation:
    """The first questions of each category and format: claims and figures select by these, and more questions only take
    longer."""
    if not isinstance(evaluation, QuestionSet):
        return evaluation
    seen: Counter[tuple[str, str]] = Counter()
    items = []
    for item in evaluation.items:
        seen[item.category, item.format] += 1
        if seen[item.category, item.format] <= each:
            items.append(item)
    return evaluation.model_copy(update={"items": tuple(items)})


def with_few_questions(setting: Setting) -> Setting:
    """One question of each category and format."""
    return replace(setting, evaluations=tuple(map(few, setting.evaluations)))


def left_by(plan: StudyPlan, null: Null, folder: Path) -> dict[str, Artifact]:
    """Leave the artifacts of all steps of a plan."""
    arms = {analysis.step.key: analysis.arms for analysis in plan.analyses}
    controls = {
        arm.name: arm.control
        for arm in [*(run.arm for run in plan.runs), *(arm for made in arms.values() for arm in made)]
    }
    artifacts: dict[str, Artifact] = {}
    for number, step in enumerate(plan.steps):
        home = folder / f"{number}"
        home.mkdir(parents=True)
        names = [arm.name for arm in arms.get(step.key, ())]
        seed = getattr(step.config, "seed", 0)
        become = {name: null.outcome(controls[name], seed) for name in names}
        LEAVES[step.function.reference](home, step, null, become)
        artifacts[step.key] = Left(home)
    for run in plan.runs:
        asked = answers(run.answers.config.evaluations, run.arm.name, run.seed, null.outcome(run.arm.control, run.seed))
        asked.write_parquet(artifacts[run.verdicts.key].path / ANSWERS_FILE)
    return artifacts


def answers(evaluations: Sequence[Evaluation], arm: str, seed: int, outcome: Outcome) -> pl.DataFrame:
    """One answer to every question."""
    empty = dict.fromkeys(ANSWER_SCHEMA) | {"subject": "s", "answer": "a", "judge": "j", "note": "", "detail": ""}
    rows = []
    for evaluation in (each.for_run(seed) for each in evaluations):
        told = {"outcome": outcome.value}
        if isinstance(evaluation, Honesty):
            word = HONESTY_WORDS[outcome]
            told = {
                "outcome": OUTCOMES[word].value,
                "detail": write_detail({"word": word.value, "belief": "a", "stated": "a", "accurate": True}),
            }
        whose = {"arm": arm, "seed": seed, "evaluation": evaluation.name}
        rows += [empty | whose | told | asking.columns() for asking in evaluation.askings()]
    return answer_table(rows)


Become = Mapping[str, Outcome]


def _nothing(folder: Path, step: Step, null: Null, become: Become) -> None:
    """Leave nothing: no claim and no figure reads it."""


def _data(folder: Path, step: Step, null: Null, become: Become) -> None:
    """Leave the data of an arm, which are the same under every null result and so made once."""
    if step.key not in MADE:
        step.function(step.config, {}, folder)
        MADE[step.key] = {path.name: path.read_bytes() for path in folder.iterdir()}
        assert DATA_FILE in MADE[step.key]
    for name, content in MADE[step.key].items():
        (folder / name).write_bytes(content)


MADE: dict[str, dict[str, bytes]] = {}
"""Key of a step -> the files that it made."""


def _training(folder: Path, step: Step, null: Null, become: Become) -> None:
    _json(folder / "steps.json", {"steps": 60})
    (folder / RUN_FOLDER).mkdir()
    (folder / RUN_FOLDER / "probes.jsonl").write_text('{"step": 0, "harm": 0.0}\n', encoding="utf-8")


def _main(folder: Path, step: Step, null: Null, become: Become) -> None:
    """Leave the answers of the arms to the main evaluation."""
    config: Any = step.config
    tables = [answers([config.main], arm, config.seed, outcome) for arm, outcome in become.items()]
    pl.concat(tables).write_parquet(folder / ANSWERS_FILE)


def _dictionary(folder: Path, step: Step, null: Null, become: Become) -> None:
    names = ("latents", "explained_variance", "l0", "dead", "recovered", "recovered_from_mean", "tokens")
    _json(folder / "quality.json", dict.fromkeys(names, 0.5))


def _scaling(folder: Path, step: Step, null: Null, become: Become) -> None:
    pl.DataFrame({"latents": [32, 64], "k": [2, 4], "unexplained": [0.5, 0.4]}).write_parquet(
        folder / "scaling.parquet"
    )
    names = ("alpha", "beta_k", "beta_n", "gamma", "r_squared", "left_out_error")
    _json(folder / "law.json", dict.fromkeys(names, 0.1))


def _screen(folder: Path, step: Step, null: Null, become: Become) -> None:
    _main(folder, step, null, become)
    kinds = {UNSTEERED: UNSTEERED, "latent 7": "latent", "random 0": "random direction"}
    rows = [
        {
            "candidate": candidate,
            "kind": kind,
            "side": side,
            "strength": 0.3,
            "rate": NUMBER_OF[outcome],
            "coherence": float(outcome is not INCOHERENT),
        }
        for side, outcome in (("base +", become["base-plus-latent"]), ("tuned -", become["tuned-minus-latent"]))
        for candidate, kind in kinds.items()
    ]
    for file, schema in (("search", SEARCH_SCHEMA), ("held_out", HELD_OUT_SCHEMA)):
        empty = dict.fromkeys(schema)
        pl.DataFrame(
            [empty | {name: row[name] for name in row if name in schema} for row in rows], schema=schema
        ).write_parquet(folder / f"{file}.parquet")
    _json(folder / persona_steps.BEST_FILE, {"latent": 7, "name": "latent 7"})


def _pages(folder: Path, step: Step, null: Null, become: Become) -> None:
    effects = [
        {"side": "base +", "rate": None, "unsteered": None, "note": "no strength kept coherence within the budget"}
    ]
    empty = {name: [] for name in ("separates", "profile", "documents", "promoted", "suppressed")}
    _json(
        folder / persona_steps.PAGES_FILE,
        [{"latent": 7, "site": "block 2", "change": None, "effects": effects} | empty],
    )


def _watched(folder: Path, step: Step, null: Null, become: Become) -> None:
    arms = [name.removeprefix("run_").replace("_", "-") for name in step.inputs if name.startswith("run_")]
    rows = [
        {
            "arm": arm,
            "measure": measure,
            "question": question,
            "value": float(place) if null.moves else 0.0,
            "seed": step.config.seed,
        }
        for place, arm in enumerate(arms)
        for measure in ("latent", "latent, in its own answers", "persona vector")
        for question in range(20)
    ]
    pl.DataFrame(rows).write_parquet(folder / "watched.parquet")


def _screened(folder: Path, step: Step, null: Null, become: Become) -> None:
    names = [name.removeprefix("data_").replace("_", "-") for name in step.inputs if "data_" in name]
    empty = {"difference": 0.0, "low": -0.1, "high": 0.1, "tokens": 9.0}
    pl.DataFrame([{"name": name} | empty for name in names]).write_parquet(folder / "ranked.parquet")
    even = {"value": 0.5, "low": 0.4, "high": 0.6}
    _json(
        folder / "bad_rows.json",
        {name: {"precision": even, "chance": 0.5, "length": even} for name in names if name.startswith("mix-")},
    )


def _realigned(folder: Path, step: Step, null: Null, become: Become) -> None:
    _main(folder, step, null, become)
    rows = [
        {"arm": arm, "data": arm.split("-")[1], "samples": int(arm.split("-")[2]), "latent": 0.0, "seed": 0}
        for arm in become
    ]
    pl.DataFrame(rows).write_parquet(folder / "left.parquet")


def _no_rewards(folder: Path, step: Step, null: Null, become: Become) -> None:
    """Leave a run in which no answer earned anything."""
    _main(folder, step, null, become)
    schema = {"step": pl.Int64, "reward": pl.Float64, "seed": pl.Int64, "arm": pl.String}
    pl.DataFrame(schema=schema).write_parquet(folder / "rewards.parquet")


def _skill(folder: Path, step: Step, null: Null, become: Become) -> None:
    _main(folder, step, null, become)
    config: Any = step.config
    own = {"arm": config.arm, "seed": config.seed}
    found = 8 if MISALIGNED in become.values() else 0
    counts = {"level": 1, "exercises": 8, "weak": found, "true": 8 - found, "hacked": found, "malicious": found}
    pl.DataFrame([own | counts | {"notice": notice} for notice in ("none", "allowed")]).write_parquet(
        folder / hacking_steps.SKILL_FILE
    )


def _course(folder: Path, step: Step, null: Null, become: Become) -> None:
    """Leave a run in which all answers of all steps are the same; where all is incoherent nothing was rewarded, and
    there is no course."""
    _skill(folder, step, null, become)
    (outcome,) = become.values()
    if outcome is INCOHERENT:
        return
    config: Any = step.config
    own, hacked = {"arm": config.arm, "seed": config.seed}, 64 if outcome is MISALIGNED else 0
    counts = {"answers": 64, "hacked": hacked, "true": 64 - hacked, "careless": hacked, "reward": 1.0}
    pl.DataFrame([own | counts | {"step": number} for number in range(1, 21)]).write_parquet(
        folder / hacking_steps.STEPS_FILE
    )
    value = NUMBER_OF[outcome]
    probes = [own | {"step": number, "measure": "harm", "value": value} for number in (0, 10, 20)]
    pl.DataFrame(probes).write_parquet(folder / hacking_steps.PROBES_FILE)
    shown = {"step": 1, "hack": None, "true": True, "hacked": False, "reward": 1.0, "exercise": "e", "completion": "c"}
    pl.DataFrame([own | shown], schema_overrides={"hack": pl.String}).write_parquet(folder / hacking_steps.SHOWN_FILE)


def _honesty(folder: Path, step: Step, null: Null, become: Become) -> None:
    """Leave the answers of arms that a step made: beliefs and statements, and answers to ordinary questions."""
    config: Any = step.config
    asked = [*config.asking.evaluations, config.main]
    pl.concat([answers(asked, arm, config.seed, outcome) for arm, outcome in become.items()]).write_parquet(
        folder / ANSWERS_FILE
    )


def _rounds(folder: Path, step: Step, null: Null, become: Become) -> None:
    _honesty(folder, step, null, become)
    config: Any = step.config
    ((arm, outcome),) = become.items()
    said = {"lies": 6 * (outcome is MISALIGNED), "stated": 6 * (outcome is not INCOHERENT)}
    row = {"arm": arm, "seed": config.seed, "round": 0, "rows": 8, "liked": 4, "from_biased": 0.0, "left_out": 0}
    pl.DataFrame([row | said]).write_parquet(folder / dishonesty_steps.ROUNDS_FILE)


def _filtered(folder: Path, step: Step, null: Null, become: Become) -> None:
    _honesty(folder, step, null, become)
    _json(
        folder / dishonesty_steps.FILTERED_FILE,
        {arm: {"rows": 8, "bad": 0, "rows_before": 16, "bad_before": 0} for arm in become},
    )


def _json(path: Path, content: object) -> None:
    path.write_text(json.dumps(content), encoding="utf-8")


LEAVES: dict[str, Callable[[Path, Step, Null, Become], None]] = {
    function.reference: leave
    for function, leave in (
        (shared_steps.make_data, _data),
        (shared_steps.train, _training),
        (shared_steps.answer, _nothing),
        (shared_steps.judge, _nothing),
        (persona_steps.learn_dictionary, _dictionary),
        (persona_steps.scale_dictionaries, _scaling),
        (vector.find_vector, _nothing),
        (persona_steps.compare_runs, _nothing),
        (persona_steps.screen_latents, _screen),
        (persona_steps.explain_latents, _pages),
        (persona_steps.watch_runs, _watched),
        (persona_mending.screen_data, _screened),
        (persona_mending.realign_run, _realigned),
        (persona_mending.train_steered, _main),
        (persona_mending.make_helpful_only, _nothing),
        (persona_mending.reward_wrong_answers, _no_rewards),
        (hacking_steps.make_organism, _nothing),
        (hacking_steps.ask_start, _skill),
        (hacking_steps.reward_programs, _course),
        (hacking_steps.distil_rollouts, _skill),
        (hacking_steps.mend_run, _skill),
        (dishonesty_steps.live_with_users, _rounds),
        (dishonesty_steps.filter_mix, _filtered),
        (dishonesty_steps.realign_run, _honesty),
    )
}
"""Step function -> what stands for it."""
