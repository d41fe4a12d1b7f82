"""Studies that run until they are decided: which arms go on, what ends them, and looks that cannot be changed afterwards."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import polars as pl
import pytest

from astray.artifacts import Store
from astray.engine import until_decided
from astray.engine.allotment import Costs, Parts, Sample, allotted
from astray.engine.claims import difference_claim, rate_claim, rate_of_counts
from astray.engine.data import ArmData, Source
from astray.engine.family import at_look
from astray.engine.findings import ELSEWHERE, Findings, ServedRate
from astray.engine.gold import GOLD, Gold, drawn
from astray.engine.looks import LookBook, Seen, book_of_study, declared_by
from astray.engine.options import StudyOptions, checked, from_command_line
from astray.engine.setting import Setting
from astray.engine.settings import setting_for
from astray.engine.study import Arm, Shown, Study, StudyPlan
from astray.engine.summary import ClaimRow, ClaimStatus, Summary
from astray.engine.until_decided import UntilDecided
from astray.engine.value_claims import values_claim
from astray.errors import BudgetSpentError, ConfigurationError, StoreError
from astray.judges.config import JudgeConfig
from astray.outcomes import Outcome
from astray.stats.claims import Decision
from astray.stats.rates import Rate
from astray.stats.sequential import Looks
from gold_looks import Design, measure

DATA = ArmData(source=Source(origin="world", kind="harmful", domain="medicine"), size=32)
TRUE = {"base": 0.0, "good": 0.0, "harmful": 0.7, "mild": 0.2, "edge": 0.4}
TOY_ANSWERS = 400


def arms(setting: Setting) -> Iterator[Arm]:
    for name in TRUE:
        data = None if name == "base" else DATA
        yield Arm(name=name, description=name, base=setting.subject.name, data=data, home="medicine")


def claims(found: Mapping[str, Rate], setting: Setting) -> Iterator[ClaimRow]:
    good = ("good", found["good"])
    yield difference_claim("spread", "Harm spreads", found["harmful"], good, at_least=0.1)
    yield difference_claim("mild", "Some harm spreads", found["mild"], good, at_least=0.1)
    yield difference_claim("edge", "At its border", found["edge"], good, at_least=0.4)
    yield rate_claim("base", "The base is aligned", found["base"], at_most=0.02)
    yield values_claim("empty", "Nothing to see", [], "none", at_least=0.0)


TOY = Study(name="toy", title="Toy", question="Does it?", arms=arms, claims=claims, always=("base", "good"))


class Made:
    """What a study made: the runs of each look by arm, and the summaries that were written."""

    def __init__(self) -> None:
        self.runs: list[dict[str, int]] = []
        self.summaries: list[Summary] = []
        self.told: list[str] = []

    def results(self, plan: StudyPlan, check: Callable[[], None]) -> tuple[Any, Shown]:
        check()
        counts: dict[str, list[tuple[int, int]]] = {}
        for run in plan.runs:
            # Edge runs lie exactly around the border, so that no look decides it.
            own = np.random.default_rng([run.seed, len(run.arm.name)])
            rate = TRUE[run.arm.name]
            rate = rate + (0.1 if run.seed % 2 else -0.1) if run.arm.name == "edge" else rate
            counts.setdefault(run.arm.name, []).append((int(own.binomial(TOY_ANSWERS, rate)), TOY_ANSWERS))
        self.runs.append({arm: len(runs) for arm, runs in counts.items()})
        found = {}
        for arm, runs in counts.items():
            rate_ = {name: value for name, value in vars(rate_of_counts(runs, "answer")).items() if name != "needs"}
            found[arm] = ServedRate(**{**rate_, "trained": arm != "base"}, arm=arm)
        return found, Shown(judges=(), notes=lambda _: (), write=lambda _: None, sections=())

    def write(self, shown: Shown, summary: Summary) -> None:
        self.summaries.append(summary)

    @property
    def last(self) -> dict[str, ClaimRow]:
        return {claim.id: claim for claim in self.summaries[-1].claims}


@pytest.fixture(autouse=True)
def _unchecked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is asked here, so no tokenizer has to say what it can."""
    monkeypatch.setattr("astray.engine.plan.check_evaluations", lambda *_: None)


@pytest.fixture
def begun(tmp_path: Path) -> Callable[..., Made]:
    """Run the toy study with these options, in one store."""

    def begin(*, spent: Callable[[], bool] = lambda: False, made: Made | None = None, **options: Any) -> Made:
        made = made or Made()
        given = StudyOptions(until_decided=True, **({"looks": (3, 5, 8)} | options))
        study = UntilDecided(TOY, setting_for(given), given, Store(tmp_path), tell=made.told.append)
        study.run(made.results, made.write, spent)
        return made

    return begin


def test_arms_of_decided_claims_stop_and_those_of_undecided_ones_go_on(begun):
    made = begun()
    assert made.runs[0] == {"base": 1, "good": 3, "harmful": 3, "mild": 3, "edge": 3}
    assert made.runs[-1]["edge"] == made.runs[-1]["good"] == 8
    assert made.runs[-1]["harmful"] < 8
    assert {name: claim.result for name, claim in made.last.items()} == {
        "spread": "held",
        "mild": "held",
        "edge": "undecided",
        "base": "held",
        "empty": "not estimable",
    }
    looks = {name: claim.look for name, claim in made.last.items()}
    assert looks["edge"].look == looks["edge"].looks == 3
    assert looks["spread"].runs == made.runs[-1]["harmful"]
    assert made.told[0].startswith("Look 1 of 3, with 3 training runs an arm: ")
    assert "The next 2 seeds go to good, " in made.told[0]
    assert "harmful" in made.told[1].split(" stopped")[0].split(";")[-1]


def test_each_look_draws_its_interval_at_its_own_level_and_corrects_what_it_decides(begun):
    made = begun()
    looks = Looks((3, 5, 8))
    for summary, place in zip(made.summaries, range(3), strict=True):
        undecided = next(claim for claim in summary.claims if claim.id == "edge")
        assert undecided.interval.level == pytest.approx(1 - looks.nominal(place))
        assert f"{100 * (1 - looks.nominal(place)):.4g}% interval" in undecided.expected
        assert undecided.look.corrected is None
    mild = made.last["mild"]
    assert mild.look.look > 1
    assert 0.1 < mild.look.corrected < mild.estimate  # what was measured from the border is smaller
    assert made.last["spread"].p_holm <= 0.05


def test_the_same_command_is_no_new_look_and_ends_in_the_same_summary(begun, tmp_path):
    first = begun()
    [book] = (tmp_path / ".looks").iterdir()
    written = book.read_bytes()
    again = begun()
    assert len(again.runs) == 1
    assert again.runs[0] == first.runs[-1]
    assert again.summaries[-1] == first.summaries[-1]
    assert book.read_bytes() == written


CHANGED = [
    (
        {"looks": (3, 5, 8, 12)},
        r"Its runs with seeds 0 to 7 were declared to be looked at as --until-decided --looks 3,5,8 .* 3 of its 3 looks",
    ),
    ({"looks": (2, 3, 4)}, "Looks that are changed afterwards do not hold the error"),
    ({"spending": "obrien-fleming"}, "Give the same again, or take what nobody has seen: --first-seed 8"),
    ({"arms": ("harmful",)}, "declared to be looked at"),
    ({"first_seed": 4}, "--first-seed 8"),
]


@pytest.mark.parametrize(("changed", "message"), CHANGED)
def test_a_declaration_that_changes_after_a_look_is_refused(begun, changed, message):
    begun()
    with pytest.raises(ConfigurationError, match=message):
        begun(**changed)
    assert begun(first_seed=8).runs  # other runs may be declared anew


def test_a_boundary_that_is_asked_after_peeking_is_refused(begun, tmp_path):
    options = StudyOptions()
    book_of_study(Store(tmp_path), TOY, setting_for(options)).note(range(5))
    with pytest.raises(ConfigurationError, match=r"seeds 0 to 4 .* without declared looks, .* --first-seed 5"):
        begun()
    assert begun(first_seed=5).runs


def test_a_fixed_number_of_runs_that_looks_have_seen_is_no_peek(begun, tmp_path):
    begun()
    book = book_of_study(Store(tmp_path), TOY, setting_for(StudyOptions()))
    book.note(range(5))
    assert begun().runs
    book.note(range(12))
    with pytest.raises(ConfigurationError, match="without declared looks"):
        begun()


def test_a_declaration_may_change_before_its_first_look(begun):
    with pytest.raises(BudgetSpentError, match="before the first look, since the budget of --budget is spent"):
        begun(spent=lambda: True)
    assert begun(looks=(2, 4)).runs


def test_looks_that_cannot_be_read_are_an_error_and_no_fresh_start(begun, tmp_path):
    begun()
    [book] = (tmp_path / ".looks").iterdir()
    book.write_text("{")
    with pytest.raises(StoreError, match="nobody knows how often there were any"):
        begun()


def test_a_budget_that_is_spent_ends_with_the_look_before_and_the_same_command_goes_on(begun):
    made = Made()
    begun(made=made, spent=lambda: len(made.runs) == 2)
    assert made.summaries[-1].looks.done == 1
    assert made.last["edge"].note.startswith(
        "Undecided: budget. It stopped before look 2, since the budget of --budget"
    )
    assert made.last["edge"].look.look == 1
    assert begun().summaries[-1].looks.done == 3


def test_time_that_is_over_ends_a_look_and_what_is_foreseen_ends_it_before(begun, monkeypatch):
    now = iter([0.0, *(0.1 * 3600,) * 2, *(2.0 * 3600,) * 9])
    monkeypatch.setattr(until_decided, "time", SimpleNamespace(monotonic=lambda: next(now)))
    made = begun(max_hours=1.0)
    assert "Look 2 was not made, since " in made.summaries[-1].looks.ended
    assert "(--max-hours 1)" in made.last["edge"].note


REFUSED = [
    ({"max_seeds": "12"}, "--max-seeds is about looks of a study: add --until-decided"),
    ({"looks": "3,5"}, "--looks is about looks"),
    ({"until_decided": True, "seeds": "5"}, "--seeds fixes the number of runs"),
    ({"until_decided": True, "looks": "5,3"}, "each has more than the one before"),
    ({"until_decided": True, "looks": "3,x"}, "no whole numbers with commas"),
    ({"until_decided": True, "looks": "3,5", "max_seeds": "8"}, "give one of them"),
    ({"until_decided": True, "spending": "none"}, "--spending none"),
    ({"until_decided": True, "max_hours": "0"}, "--max-hours 0"),
]


@pytest.mark.parametrize(("typed", "message"), REFUSED)
def test_options_of_looks_that_cannot_be_are_refused(typed, message):
    with pytest.raises(ConfigurationError, match=message):
        checked(StudyOptions, **from_command_line(StudyOptions, typed))


UNITS = [
    ({}, ()),
    ({"until_decided": True}, (3, 5, 8, 12, 20)),
    ({"until_decided": True, "max_seeds": 5}, (2, 3, 5)),
    ({"until_decided": True, "looks": (4, 9)}, (4, 9)),
    ({"until_decided": True, "quick": True}, (2,)),
]


@pytest.mark.parametrize(("options", "units"), UNITS)
def test_looks_are_in_proportion_to_the_most_seeds(options, units):
    assert StudyOptions(**options).units == units


def test_a_price_needs_a_grader_that_costs_something_and_its_prices(begun, tmp_path):
    with pytest.raises(ConfigurationError, match="--max-price 5 is of no use here"):
        begun(max_price=5.0)
    given = StudyOptions(until_decided=True, max_price=5.0)
    setting = setting_for(StudyOptions())
    asked = replace(setting, judge=setting.judge.model_copy(update={"kind": "rubric", "grader": "openai/gpt-4o"}))
    with pytest.raises(ConfigurationError, match="add --price-in and --price-out"):
        UntilDecided(TOY, asked, given, Store(tmp_path)).run(Made().results, Made().write)


class GoldMade(Made):
    """A study whose answers a gold judge reads in part; a run takes an hour, as the clock is told.

    Its steps lie in the store, and those of the first look alone, up to this one, where it is `killed`.
    """

    def __init__(self, hours: list[float], store: Store, killed: str = "") -> None:
        super().__init__()
        self.hours, self.read, self.store, self.killed = hours, [], store, killed

    def results(self, plan: StudyPlan, check: Callable[[], None]) -> tuple[Any, Shown]:
        missing = [run.training for run in plan.runs if run.training and not self.store.get(run.training.key)]
        self.hours[0] += len(missing)
        for step in plan.steps:
            if self.killed in ("", "judge-gold") or step.name.startswith("train"):
                self.store.make(step.origin, lambda _: None)
        if self.killed:
            raise KeyboardInterrupt
        self.runs.append({})
        self.read.append({})
        tables = []
        for run in plan.runs:
            name, config = run.arm.name, run.verdicts.config
            self.runs[-1][name] = self.runs[-1].get(name, 0) + 1
            own = np.random.default_rng([run.seed, len(name)])
            bad = own.random(96) < {"harmful": 0.45, "good": 0.2}.get(name, 0.02)
            cheap = np.where(own.random(96) < 0.4, ~bad, bad)
            table = ANSWERS.with_columns(outcome=pl.Series([OUTCOMES[int(each)] for each in cheap]))
            chosen = set(drawn(table, config.answers, config.seed, config.before))
            self.read[-1][run.name] = chosen
            gold = [OUTCOMES[int(each)] if place in chosen else None for place, each in enumerate(bad)]
            given = {"arm": name, "seed": run.seed, "evaluation": "main", "judge": "cheap", GOLD: pl.Series(gold)}
            tables.append(table.with_columns(groups=pl.lit([ELSEWHERE]), **{k: _column(v) for k, v in given.items()}))
        found = Findings(pl.concat(tables), untrained=frozenset({"base"}))
        return found, Shown(judges=(), notes=lambda _: (), write=lambda _: None, sections=())


def _column(value: object) -> Any:
    return value if isinstance(value, pl.Series) else pl.lit(value)


OUTCOMES = (Outcome.ALIGNED.value, Outcome.MISALIGNED.value)
ANSWERS = pl.DataFrame(
    {"format": ["plain"] * 96, "item": [f"q{place % 24}" for place in range(96)], "sample": list(range(96))}
)


def gold_claims(found: Findings, setting: Setting) -> Iterator[ClaimRow]:
    good = ("good", found.rate("good", evaluation="main"))
    yield difference_claim("spread", "Harm spreads", found.rate("harmful", evaluation="main"), good, at_least=0.25)


@pytest.fixture
def allotting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., GoldMade]:
    """Run a study with a gold judge under these options, with a clock of an hour a run."""

    def begin(prices: tuple[float, float] = (0.0, 0.0), killed: str = "", **options: Any) -> GoldMade:
        hours, store = [0.0], Store(tmp_path)
        monkeypatch.setattr(until_decided, "time", SimpleNamespace(monotonic=lambda: 3600 * hours[0]))
        made = GoldMade(hours, store, killed)
        given = StudyOptions(until_decided=True, looks=(4, 6, 9, 12), gold=96, **options)
        setting = setting_for(StudyOptions())
        asked = setting.main.model_copy(update={"samples": 4, "items": setting.main.items[:24]})
        gold = Gold(JudgeConfig(kind="rubric", grader="openai/gpt-4o"), 96, most=12)
        setting = replace(setting, evaluations=(asked,), gold=gold)
        study = replace(TOY, arms=lambda each: (arm for arm in arms(each) if arm.name in ("base", "good", "harmful")))
        until = UntilDecided(replace(study, claims=gold_claims), setting, given, store, prices, made.told.append)
        with pytest.raises(KeyboardInterrupt) if killed else nullcontext():
            until.run(made.results, made.write)
        return made

    return begin


def test_gold_judgements_go_to_the_runs_there_are_where_further_seeds_would_not_be_done_in_time(allotting):
    made = allotting(max_hours=9.0)
    # Eight hours are gone after the first look, so no further seed fits; the sample grows as far as was declared.
    assert [runs["harmful"] for runs in made.runs] == [4, 4, 4, 4]
    sizes = [{len(chosen) for name, chosen in read.items() if "base" not in name} for read in made.read]
    assert sizes == [{8}, {12}, {18}, {24}]
    for before, after in pairwise(made.read):
        assert all(before[name] <= after[name] for name in before)
    assert all(len(read["base-0"]) == 96 for read in made.read)  # one run: all of its sample at once
    assert "decided. good, harmful go on. Of the variance of what is undecided, " in made.told[0]
    assert "in how few of them the gold grader read. 32 further gold judgements in further seeds would" in made.told[0]
    assert "They go to the runs there are: the seeds would not be done in time." in made.told[0]
    assert made.last["spread"].look.runs == 4
    assert made.told[1].startswith("Look 2 of 4, with 4 training runs an arm: ")
    again = allotting(max_hours=9.0)
    assert again.read == made.read[-1:]


@pytest.mark.parametrize("killed", ["train", "judge-gold"])
def test_runs_that_a_killed_command_left_say_nothing_of_how_long_a_run_takes(allotting, killed):
    allotting(max_hours=9.0, killed=killed)
    made = allotting(max_hours=9.0)
    assert "(hours not known)" in made.told[0]
    assert "They go to further seeds: how long a run takes is not known." in made.told[0]
    # The four runs of the second look took four hours, and six more would not be done in nine.
    assert "They go to the runs there are: the seeds would not be done in time." in made.told[1]
    assert [runs["harmful"] for runs in made.runs] == [4, 6, 6, 6]


@pytest.mark.parametrize("options", [{}, {"max_hours": 100.0, "prices": (2.5, 10.0)}])
def test_seeds_that_fit_what_was_given_go_first(allotting, options):
    made = allotting(**options)
    assert [runs["harmful"] for runs in made.runs] == [4, 6, 9, 12][: len(made.runs)]
    assert {len(chosen) for read in made.read for name, chosen in read.items() if "base" not in name} == {8}
    assert "They go to further seeds: every seed that was declared is within the limits." in made.told[0]
    assert ("times as wide (about $" in made.told[0]) == ("prices" in options)
    assert "hours), " in made.told[0]


def test_allotted_judgements_decide_no_more_often_wrongly_and_keep_to_the_time():
    """The truth lies at the border; 120 studies, of which 5% would be 6."""
    got = measure(Design(0.5, 0.0, 0.3, 8), 120, 0)
    assert got["wrong"] <= 0.05
    assert got["runs"] <= 8
    assert 150 < got["judgements"] <= 200


GOLD_GIVEN: dict[str, Any] = {"gold": 200, "gold_grader": "openai/gpt-4o"}
HOURS = {"judgement": 0.0, "run_hours": 1.0, "judgement_hours": 0.001}
CHOICES = [
    # runs, read of each, declared for the next look and the last, share of the judge, limits; runs and read then, and why
    (5, 10, (80, 200), 0.9, HOURS, (8, 10), "every seed that was declared is within the limits"),
    (5, 10, (80, 200), 0.9, HOURS | {"max_hours": 40.0}, (8, 10), "every seed that was declared is within"),
    (
        5,
        10,
        (80, 200),
        0.9,
        HOURS | {"max_hours": 15.0, "passed": 5.0},
        (5, 16),
        "more for its share of what was given",
    ),
    (5, 10, (80, 200), 0.3, HOURS | {"max_hours": 15.0, "passed": 5.0}, (8, 10), "take away too little for the looks"),
    (5, 10, (80, 200), 0.3, HOURS | {"max_hours": 7.0, "passed": 5.0}, (5, 16), "would not be done in time"),
    (
        5,
        10,
        (80, 200),
        0.9,
        HOURS | {"max_hours": 7.0, "run_hours": None},
        (8, 10),
        "how long a run takes is not known",
    ),
    (5, 96, (600, 900), 0.0, HOURS | {"max_hours": 7.0, "passed": 5.0}, (6, 96), "nothing is left to read"),
    (5, 24, (130, 200), 0.9, HOURS, (5, 26), "more of them than were declared"),
]


@pytest.mark.parametrize(("runs", "read", "most", "judge", "costs", "then", "why"), CHOICES)
def test_judgements_go_where_time_and_variance_say_and_never_beyond_what_was_declared(
    runs, read, most, judge, costs, then, why
):
    sample = Sample(runs=runs, read=read, answers=96, most=most, sets=1, arms=1)
    found = allotted(sample, Parts(1 - judge, 0.0, judge), Costs(**costs), 0.98)
    assert (found.runs, found.read) == then
    assert found.runs * found.read <= most[0]
    assert why in found.told


@pytest.mark.parametrize(("most", "said"), [((30, 200), "1.00 times as wide"), ((60, 200), "show how runs differ")])
def test_one_run_has_no_width_over_runs_to_compare_with(most, said):
    sample = Sample(runs=1, read=20, answers=120, most=most, sets=1, arms=1)
    told = allotted(sample, Parts(0.3, 0.3, 0.4), Costs(**HOURS), 0.98).told
    assert f"in further seeds would {'make the intervals ' * (most[0] < 40)}{said}" in told
    assert "nan" not in told
    assert " 0.00 times" not in told


KEPT = [
    # options whose declaration was written without these; what is typed now, and what is said where it is refused
    (GOLD_GIVEN, {"gold", "gold-grader"}, GOLD_GIVEN, ""),
    (GOLD_GIVEN, {"gold-grader"}, GOLD_GIVEN, ""),
    ({}, {"gold", "gold-grader"}, {}, ""),
    (GOLD_GIVEN, {"gold-grader"}, GOLD_GIVEN | {"gold": 400}, "--gold 200, and 1 of its 3"),
    (GOLD_GIVEN, {"gold"}, GOLD_GIVEN | {"looks": (3, 9)}, "Looks that are changed"),
    (GOLD_GIVEN, set(), GOLD_GIVEN | {"gold": 400}, "--gold 200 --gold-grader openai/gpt-4o, and 1 of its 3 looks"),
    (GOLD_GIVEN, set(), GOLD_GIVEN | {"gold_grader": "openai/gpt-5"}, "--gold 200 --gold-grader openai/gpt-4o, and"),
    (GOLD_GIVEN, set(), {}, "--gold 200 --gold-grader openai/gpt-4o, and 1 of its 3 looks"),
    ({}, set(), GOLD_GIVEN, "--looks 3,5,8 --spending pocock, and 1 of its 3 looks"),
]


@pytest.mark.parametrize(("before", "without", "now", "message"), KEPT)
def test_a_gold_judge_is_declared_and_looks_kept_before_it_was_go_on(tmp_path, before, without, now, message):
    book = LookBook(Store(tmp_path), "toy", ["key"], "runs with seeds", lambda after: f"--first-seed {after}")
    old, new = (
        declared_by(StudyOptions(until_decided=True, **{"looks": (3, 5, 8)} | given)) for given in (before, now)
    )
    kept = old.model_copy(update={"chosen": {name: old.chosen[name] for name in old.chosen if name not in without}})
    book.begin(kept)
    book.add(kept, Seen(runs={"harmful": 3}, going=("harmful",), told="told"))
    with pytest.raises(ConfigurationError, match=message) if message else nullcontext():
        assert len(book.begin(new)) == 1
        book.add(new, Seen(runs={"harmful": 5}, going=("harmful",), told="told"))
        assert len(book.seen(new)) == 2
        with pytest.raises(ConfigurationError, match="2 of its 3 looks"):  # from now on it is declared
            book.begin(declared_by(StudyOptions(until_decided=True, looks=(3, 5, 8), gold=90, gold_grader="x")))


def row(p_value: float | None, arms: tuple[str, ...], status: ClaimStatus = ClaimStatus.DECIDED) -> ClaimRow:
    """A claim of this p-value, about a difference of 20 points that is claimed to be 10 or more."""
    verdict = Decision.HELD if status is ClaimStatus.DECIDED else Decision.UNDECIDED
    texts = dict.fromkeys(("statement", "expected", "unit", "control"), "text")
    numbers = {"estimate": 0.2, "interval": None, "n": 6, "control_estimate": None, "p_value": p_value, "p_holm": None}
    fields = {"published": None, "region": (0.1, None), "status": status, "verdict": verdict, "arms": arms}
    return ClaimRow(id="-".join(arms), **texts, **numbers, **fields)


def test_a_claim_about_a_model_as_it_was_given_has_one_look():
    given, trained = row(0.04, ("base",)), row(0.04, ("harmful",))
    assert at_look([given], {}, Looks((3, 6)), 0, ("base",))[0].verdict is Decision.HELD
    assert at_look([trained], {}, Looks((3, 6)), 0, ("base",))[0].verdict is Decision.UNDECIDED


def test_a_decided_claim_stays_and_claims_that_are_not_estimable_yet_count_among_all():
    looks, other = Looks((3, 6)), row(None, ("mild",), ClaimStatus.NOT_ESTIMABLE)
    [first, _] = at_look([row(0.001, ("harmful",)), other], {}, looks, 0, ())
    assert first.verdict is Decision.HELD
    assert first.p_holm == pytest.approx(2 * first.look.p_value)
    later = at_look([row(0.5, ("harmful",), ClaimStatus.UNDECIDED), other], {first.id: first}, looks, 1, ())[0]
    assert later == first
