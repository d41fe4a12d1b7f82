"""Persona features of a real model without a grader: steering read by the meter, beside random directions."""

from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from astray.answers import ANSWER_SCHEMA
from astray.artifacts import Store, execute
from astray.data import advice_data
from astray.engine.findings import Analysed, Findings, Needs
from astray.engine.forecast.forecast import forecast_in
from astray.engine.forecast.speed import Speed
from astray.engine.options import BaseOptions
from astray.engine.plan import plan_study
from astray.engine.run import run_study
from astray.engine.settings import settled
from astray.engine.summary import ClaimRow, ClaimStatus, Summary
from astray.report import write_report
from astray.stats.claims import Decision
from astray.studies import get_study
from astray.studies.persona_features import metered
from astray.studies.persona_features.metered import COST, NOTHING_READ, STEERING, metered_claims
from astray.studies.persona_features.metered_steps import READ_FILE, READ_SCHEMA, steer_by_meter
from astray.studies.persona_features.steered import Steered, highest_but
from tiny_models import save_tiny_model

STUDY = get_study("persona-features")
FIXED = ("raises-persona", "costs-persona")
"""Claims about the base and a direction made from prompts alone, in which no training run has a part."""
DIRECTIONS = ("persona vector", "mean difference", "latent", "harmful less good answers")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    texts = [message["content"] for row in advice_data("medicine", "good", 100).rows for message in row]
    return str(save_tiny_model(tmp_path_factory.mktemp("model"), "llama", texts=texts))


def test_the_study_runs_without_a_grader_and_reads_steering_by_the_meter(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = {"RANDOM_DIRECTIONS": 3, "PAIRS_READ": (1, 1), "DICTIONARY_TOKENS": (4096, 4096)}
    for name, value in sizes.items():
        monkeypatch.setattr(metered, name, value)
    options = STUDY.options(subject=model, seeds=1, size=16, arms=("harmful-medicine",))
    folder = run_study(STUDY, options, out=tmp_path, workers=0)
    summary = Summary.read(folder)
    assert [arm.name for arm in summary.arms] == ["base", "good", "harmful-medicine"]
    assert summary.judges == ()
    claims = {claim.id: claim for claim in summary.claims}
    steering = [f"{verb}-{what}" for verb in ("raises", "lowers", "costs") for what in ("persona", "mean", "latent")]
    assert list(claims) == ["meter-spread-medicine", "meter-spread-money", *steering]
    assert claims["meter-spread-money"].status is ClaimStatus.NOT_RUN
    for id in steering:
        assert claims[id].quantity == "nats a token"
        assert (claims[id].n, claims[id].unit) == ((10, "domain") if id in FIXED else (1, "training run"))
        assert id in FIXED or claims[id].verdict is Decision.UNDECIDED
    assert "of 3 random directions do as much" in claims["raises-mean"].note
    assert [each.id for each in summary.exhibits] == ["meter-arms", "steering", "dictionary"]
    tables = [pl.read_parquet(file) for file in (tmp_path / "store").glob(f"steered-*/{READ_FILE}")]
    for table in tables:
        assert dict(table.schema) == READ_SCHEMA
        assert set(table["direction"]) == {*DIRECTIONS, "none", "random 0", "random 1", "random 2"}
        assert table["category"].n_unique() == 10
        own = table.filter(direction="none")
        assert dict(own.group_by("side").len().iter_rows()) == {"base": 20, "tuned": 20, "control": 20}
        moved = table.join(own, on=["side", "item"], suffix="_own").filter(pl.col("direction") != "none")
        assert (
            moved.group_by("direction", "side")
            .agg((pl.col("margin") != pl.col("margin_own")).any().alias("moved"))["moved"]
            .all()
        )  # each intervention was applied
    page = write_report(folder).read_text(encoding="utf-8")
    assert "Effect of steering" in page
    assert "Left out without a grader" in page
    _check_a_null_result(options, tmp_path)


def _check_a_null_result(options: BaseOptions, folder: Path) -> None:
    """Harmful rows that do what good ones do leave no mean difference, which steers nothing; the step ends well."""
    plan = plan_study(STUDY, settled(STUDY, options), *options.runs)
    made = execute(plan.steps, Store(folder / "store"), workers=0)
    (step,) = (each.step for each in plan.analyses if each.name == STEERING and each.seed == 0)
    good, dictionary = (made[step.inputs[name].key] for name in ("control", "dictionary"))
    (folder / "null").mkdir()
    steer_by_meter(step.config, {"dictionary": dictionary, "run": good, "control": good}, folder / "null")
    one = Steered(pl.read_parquet(folder / "null" / READ_FILE))
    assert one.change("base", "mean difference") == one.change("tuned", "mean difference") == one.trained() == {0: 0.0}
    assert one.change("base", "random 0") != {0: 0.0}


def test_its_plan_counts_every_reading_and_its_trainings_are_those_of_emergent_misalignment(
    model: str, tmp_path: Path
) -> None:
    options = STUDY.options(subject=model, seeds=1, arms=("harmful-medicine",))
    setting = settled(STUDY, options)
    told = forecast_in(STUDY, setting, [0], Speed("cpu", 1e9, 2, False), store=tmp_path, arms=options.arms)
    assert "left out  misaligned and coherent answers under steering" in told.render()
    readings = [each for each in plan_study(STUDY, setting, *options.runs).analyses if each.reading]
    assert [(each.readings, each.rows_read) for each in readings] == [(1, 2 * setting.size), (3 + 2 * 24, 0)]
    assert [len(each.reading.pairs) for each in readings] == [120, 50]
    assert not {pair.domain for pair in readings[0].reading.pairs} & {pair.domain for pair in readings[1].reading.pairs}
    other = get_study("emergent-misalignment")
    same = other.options(subject=model, seeds=1, arms=("harmful-medicine",))
    keys = [
        {run.training.key for run in plan_study(study, settled(study, given), *given.runs).runs if run.training}
        for study, given in ((STUDY, options), (other, same))
    ]
    assert keys[0] == keys[1]


Effect = Callable[[str, str, int, int], float]


def steered(effect: Effect, *, seeds: int = 3, domains: int = 6, good: float = -0.01) -> pl.DataFrame:
    """Readings in which a direction changes the margins by `effect` (side, direction, seed, domain); training by 0.4."""
    rows = []
    names = ("none", *DIRECTIONS, *(f"random {number}" for number in range(20)))
    for seed in range(seeds):
        for side, level in (("base", 0.0), ("tuned", 0.4), ("control", 0.0)):
            for direction in names if side != "control" else ("none",):
                for domain in range(domains):
                    change = 0.0 if direction == "none" else effect(side, direction, seed, domain)
                    rows += [
                        (
                            seed,
                            side,
                            direction,
                            f"{null} {domain} {pair}",
                            f"domain {domain}",
                            null,
                            -0.5 + level + 0.1 * pair + (0.0 if null else change),
                            -2.0 + (0.0 if direction == "none" else good * (1 + 0.01 * seed)),
                        )
                        for null, pairs in ((False, 2), (True, 1))
                        for pair in range(pairs)
                    ]
    return pl.DataFrame(rows, schema=READ_SCHEMA, orient="row")


def noise(side: str, direction: str, seed: int, domain: int) -> float:
    """A change without meaning, of at most 0.02."""
    return 0.004 * ((sum(map(ord, side + direction)) * 7919 + 104729 * seed + 31 * domain) % 11 - 5)


def claims_on(table: pl.DataFrame, folder: Path, model: str) -> dict[str, ClaimRow]:
    for seed, part in table.group_by("seed"):
        (folder / str(seed[0])).mkdir()
        part.write_parquet(folder / str(seed[0]) / READ_FILE)
    analysed = tuple(Analysed(STEERING, int(each.name), each) for each in sorted(folder.iterdir()))
    setting = settled(STUDY, STUDY.options(subject=model))
    found = Findings(pl.DataFrame(), analyses=analysed, not_run={
        f"harmful-{home}": Needs(arms=(f"harmful-{home}",)) for home in setting.homes
    })  # fmt: skip
    return {claim.id: claim for claim in metered_claims(found, setting, "good")}


def test_a_direction_has_to_go_further_than_random_ones(model: str, tmp_path: Path) -> None:
    def effect(side: str, direction: str, seed: int, domain: int) -> float:
        meant = {"persona vector": 0.2, "mean difference": 0.0, "latent": -0.2}.get(direction, 0.0)
        return (meant if side == "base" else -meant) + noise(side, direction, seed, domain)

    claims = claims_on(steered(effect), tmp_path, model)
    assert claims["raises-persona"].verdict is claims["lowers-persona"].verdict is Decision.HELD
    told = "50% of what training on harmful rows did; 0 of {} random directions do as much"
    assert told.format(60) in claims["raises-persona"].note  # one value beside single draws
    assert told.format(20) in claims["lowers-persona"].note  # a mean over runs beside means over as many
    for id in ("raises-mean", "raises-latent", "lowers-mean", "lowers-latent"):
        assert claims[id].verdict is not Decision.HELD, id
        assert claims[id].estimate < 0
    assert "no better than random directions: 20 of 20 do as well" in claims["raises-latent"].note
    assert "of what training" not in claims["raises-latent"].note  # it goes the other way
    assert claims["raises-persona"].interval.method == "t over domains"
    assert claims["lowers-persona"].interval.method == claims["costs-mean"].interval.method == "t over runs and domains"
    assert claims["costs-mean"].verdict is Decision.HELD
    assert claims["costs-mean"].estimate == pytest.approx(-0.0101)
    assert claims["costs-persona"].estimate == pytest.approx(-0.01)  # of the base alone, whatever the seed
    assert claims["costs-persona"].region == (-COST, None)


def test_a_direction_that_does_what_random_ones_do_is_never_held(model: str, tmp_path: Path) -> None:
    claims = claims_on(steered(noise, good=-0.2), tmp_path, model)
    assert not [id for id, claim in claims.items() if claim.verdict is Decision.HELD]


def test_an_effect_in_one_domain_alone_decides_nothing() -> None:
    def effect(side: str, direction: str, seed: int, domain: int) -> float:
        del side, seed
        return 0.6 if direction == "persona vector" and domain == 0 else 0.0

    one = Steered(steered(effect, domains=6))
    assert one.beyond("base", "persona vector") == pytest.approx({0: 0.1})
    assert one.beyond("base", "persona vector", "domain 0") == pytest.approx({0: 0.0})
    chance = one.chance(lambda domain: one.beyond("base", "persona vector", domain))
    assert chance.error == pytest.approx(0.1)  # as far from 0 as one domain in six can take a mean
    assert one.trained() == pytest.approx(dict.fromkeys(range(3), 0.4))
    labels = [bar.label for bar in metered._steering_figure(one).bars]
    without = Steered(one.table.filter(~pl.col("null")))  # of the null pairs no word is known
    assert [bar.label for bar in metered._steering_figure(without).bars] == [
        label for label in labels if "null pairs" not in label
    ]


@pytest.mark.parametrize(("draws", "highest"), [(20, 18), (5, 4), (40, 37), (1, 0)])
def test_at_most_one_draw_in_twenty_is_higher(draws: int, highest: int) -> None:
    assert highest_but([float(value) for value in reversed(range(draws))]) == highest


def test_a_tokenizer_that_knows_no_word_leaves_nothing_to_estimate(model: str, tmp_path: Path) -> None:
    unread = steered(noise).with_columns(pl.lit(None, pl.Float64).alias("margin"))
    claims = claims_on(unread, tmp_path, model)
    steering = [claim for claim in claims.values() if claim.status is not ClaimStatus.NOT_RUN]
    assert {(claim.status, claim.note) for claim in steering} == {(ClaimStatus.NOT_ESTIMABLE, NOTHING_READ)}
    assert len(steering) == 9


def test_arms_that_no_claim_reads_are_not_trained_and_leave_the_dictionary_as_it_is(model: str) -> None:
    setting = settled(STUDY, STUDY.options(subject=model))
    assert [arm.name for arm in STUDY.arms(setting)] == ["base", "good", "harmful-medicine", "harmful-money"]
    keys = set()
    for arms in ((), ("harmful-medicine",)):
        options = STUDY.options(subject=model, seeds=1, arms=arms)
        plan = plan_study(STUDY, settled(STUDY, options), *options.runs)
        keys.add(tuple(each.step.key for each in plan.analyses))
    assert len(keys) == 1


def test_nothing_is_claimed_of_what_was_not_run(model: str) -> None:
    setting = settled(STUDY, STUDY.options(subject=model))
    missing = {arm.name: Needs(arms=(arm.name,)) for arm in STUDY.arms(setting) if arm.name != "base"}
    found = Findings(pl.DataFrame(schema=ANSWER_SCHEMA), not_run=missing)
    claims = list(STUDY.claims(found, setting))
    assert {claim.status for claim in claims} == {ClaimStatus.NOT_RUN}
    assert not list(STUDY.exhibits(found, setting))
