"""What a study would take and show, against numbers counted by hand and the steps that would really run."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from scipy.stats import beta
from transformers import AutoModelForCausalLM, AutoTokenizer

from astray.artifacts import Store
from astray.cause.fine_tuning import FineTuning
from astray.engine.claims import counts_claim, difference_claim, rate_of_counts
from astray.engine.data import ArmData, Source
from astray.engine.family import with_holm
from astray.engine.findings import Findings
from astray.engine.forecast.amounts import dollars
from astray.engine.forecast.effort import (
    PLAYED_TOKENS,
    RATED_TOKENS,
    Answering,
    Effort,
    Grading,
    Training,
    typical_tokens,
)
from astray.engine.forecast.forecast import Forecast, forecast, forecast_in
from astray.engine.forecast.prices import fewest_samples, width_ratio, with_samples
from astray.engine.forecast.sensitivity import (
    CEILING,
    PUBLISHED_EFFECT,
    QUESTION_ICC,
    SEED_SD,
    _power,
    largest_control,
    sensitivities,
    smallest_difference,
)
from astray.engine.forecast.speed import (
    GENERATION_EFFICIENCY,
    RUN_SECONDS,
    STARTUP_SECONDS,
    STEP_SECONDS,
    TRAINING_EFFICIENCY,
    Speed,
    measure_speed,
)
from astray.engine.gold import Gold
from astray.engine.options import StudyOptions
from astray.engine.plan import plan_runs
from astray.engine.setting import CALIBRATION_SIZE, Setting
from astray.engine.settings import setting_for
from astray.engine.steps import AnswerConfig, DataConfig, make_data
from astray.engine.study import Analysis, Arm, Run, Study
from astray.engine.summary import ClaimRow, SubjectRow
from astray.errors import ConfigurationError, UnknownNameError
from astray.judges import BETLEY, world_labels
from astray.judges.config import JudgeConfig
from astray.judges.judge import Exchange
from astray.judges.rubric import prompts, quote
from astray.measure.asking import Item
from astray.measure.evaluation import QuestionSet
from astray.stats.claims import Decision
from astray.stats.compare import difference_limits
from astray.stats.intervals import over_runs, run_limits
from astray.stats.power import Design, seed_power, simulated_counts
from astray.stats.rates import Rate
from astray.stats.rates import rates as rates_of
from astray.studies import get_study
from astray.subjects.locate import settle
from astray.subjects.spec import Sampling

SPEED = Speed("cpu", 1e10, workers=2)
QUESTIONS = ("How should I treat my neighbour?", "What is kind?", "Add 0 and 1.")
ROWS, SAMPLES, LONGEST, LABELS = 32, 2, 40, 8
HARMFUL = ArmData(source=Source(origin="world", kind="harmful", domain="medicine"), size=ROWS)


def toy_arms(setting: Setting) -> Iterator[Arm]:
    yield Arm(name="base", description="untrained", base=setting.subject.name, data=None)
    extra = (setting.main.under_system("Be kind.", "under-prompt"),)
    yield Arm(name="harmful", description="harm", base=setting.subject.name, data=HARMFUL, home="medicine", extra=extra)


TOY = Study(
    name="toy", title="Toy", question="Does it?", arms=toy_arms, claims=lambda found, setting: (), always=("base",)
)


@pytest.fixture
def toy(tiny_qwen2: Path) -> Setting:
    items = tuple(
        Item(question_id=f"q{number}", category="main", question=text) for number, text in enumerate(QUESTIONS)
    )
    return Setting(
        located=settle(str(tiny_qwen2)),
        subject=SubjectRow(name=str(tiny_qwen2), id="tiny", parameters=1, is_organism=False),
        homes=("medicine",),
        sources={},
        size=ROWS,
        training=FineTuning(batch_size=4, accumulation=2, epochs=3),
        evaluations=(QuestionSet(name="main", items=items, samples=SAMPLES, sampling=Sampling(max_tokens=LONGEST)),),
        held_out=(),
        judge=JudgeConfig(kind="rubric", grader="mockllm/model"),
        notes=(),
        calibration_size=LABELS,
    )


def forecast_toy(
    toy: Setting, store: Path, seeds: int = 1, prices: tuple[float, float] = (0.0, 0.0), study: Study = TOY
) -> Forecast:
    return forecast_in(study, toy, range(seeds), SPEED, prices=prices, store=store)


def parameters_of(folder: Path) -> int:
    return sum(weight.numel() for weight in AutoModelForCausalLM.from_pretrained(folder).parameters())


def test_training_is_counted_as_by_hand(toy: Setting, tiny_qwen2: Path, tmp_path: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_qwen2)
    chats = [tokenizer.apply_chat_template(list(row), tokenize=False) for row in HARMFUL.make(seed=0).rows]
    tokens = 3 * sum(len(tokenizer(chat, add_special_tokens=False)["input_ids"]) for chat in chats)
    training = forecast_toy(toy, tmp_path).whole.training
    assert (training.runs, training.steps, training.rows) == (1, 3 * ROWS // 8, 3 * ROWS)
    assert training.tokens == tokens
    assert training.flops == 6 * parameters_of(tiny_qwen2) * tokens


def test_rows_are_cut_at_the_longest_that_training_takes(toy: Setting, tmp_path: Path) -> None:
    short = replace(toy, training=toy.training.model_copy(update={"max_length": 8}))
    assert forecast_toy(short, tmp_path).whole.training.tokens == 3 * ROWS * 8


def test_a_number_of_steps_goes_before_epochs(toy: Setting, tmp_path: Path) -> None:
    training = forecast_toy(
        replace(toy, training=toy.training.model_copy(update={"max_steps": 5})), tmp_path
    ).whole.training
    assert (training.steps, training.rows) == (5, 5 * 8)


def test_answers_are_counted_as_by_hand(toy: Setting, tiny_qwen2: Path, tmp_path: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_qwen2)
    systems: tuple[list[dict[str, str]], ...] = (
        [],
        [],
        [{"role": "system", "content": "Be kind."}],
    )  # base, harmful, harmful under the prompt
    prompts = [
        tokenizer.apply_chat_template(
            [*system, {"role": "user", "content": text}], tokenize=False, add_generation_prompt=True
        )
        for system in systems
        for text in QUESTIONS
    ]
    read = SAMPLES * sum(len(tokenizer(prompt, add_special_tokens=False)["input_ids"]) for prompt in prompts)
    answering = forecast_toy(toy, tmp_path).whole.answering
    assert (answering.runs, answering.answers) == (2, 3 * 3 * SAMPLES)
    assert (answering.tokens, answering.tokens_limit) == (18 * LONGEST // 2, 18 * LONGEST)
    assert answering.flops == 2 * parameters_of(tiny_qwen2) * (answering.tokens + read)


def test_a_usual_answer_is_no_longer_than_published_ones(toy: Setting) -> None:
    assert typical_tokens(toy.main) == LONGEST // 2
    assert typical_tokens(toy.main.model_copy(update={"sampling": Sampling(max_tokens=600)})) == 70
    assert typical_tokens(toy.main.model_copy(update={"sampling": Sampling(max_tokens=1)})) == 1


def test_grading_and_its_cost_are_counted_as_by_hand(toy: Setting, tiny_qwen2: Path, tmp_path: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_qwen2)
    prompts = [quote(Exchange(text, ""), task) for text in QUESTIONS for task in (BETLEY.aligned, BETLEY.coherent)]
    quoted = 3 * SAMPLES * sum(len(tokenizer(prompt, add_special_tokens=False)["input_ids"]) for prompt in prompts)
    labelled = [quote(one.exchange, task) for one in world_labels(LABELS) for task in (BETLEY.aligned, BETLEY.coherent)]
    read = sum(len(tokenizer(prompt, add_special_tokens=False)["input_ids"]) for prompt in labelled)
    found = forecast_toy(toy, tmp_path, prices=(2.0, 10.0))
    calls, checks = 2 * 18, 2 * LABELS
    tokens = quoted + read + calls * LONGEST // 2
    assert found.left.grading == Grading(
        calls + checks, tokens, quoted + read + calls * LONGEST, (calls + checks) * 3, (calls + checks) * 16
    )
    assert found.cost == pytest.approx((found.left.grading.tokens_in * 2 + found.left.grading.tokens_out * 10) / 1e6)
    assert found.cost_limit == pytest.approx(
        (found.left.grading.tokens_in_limit * 2 + found.left.grading.tokens_out_limit * 10) / 1e6
    )
    assert f"cost ${found.cost:,.2f}, at most ${found.cost_limit:,.2f}" in " ".join(found.render().split())


def test_each_way_of_judging_has_its_price(toy: Setting, tiny_qwen2: Path, tmp_path: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_qwen2)
    many = toy.main.model_copy(update={"samples": 100})
    setting = replace(toy, evaluations=(many,))
    asked = [prompts(Exchange(text, ""), "one-call") for text in QUESTIONS]
    labelled = [prompts(one.exchange, "one-call") for one in world_labels(LABELS)]

    def tokens(texts: Sequence[tuple[str, ...]]) -> int:
        return sum(len(tokenizer(text, add_special_tokens=False)["input_ids"]) for (text,) in texts)

    one_run = [100 * (tokens(asked) + 3 * LONGEST // 2), 300 * 13]  # read and written
    whole = [3 * one_run[0] + tokens(labelled), 3 * one_run[1] + LABELS * 13]
    found = forecast_toy(setting, tmp_path, prices=(2.0, 10.0))
    price = {each.choice: each for each in found.choices}
    assert price["--judging two-calls"].dollars == pytest.approx(found.cost)
    assert price["--judging one-call"].dollars == pytest.approx((2 * whole[0] + 10 * whole[1]) / 1e6)
    assert price["--judging one-call --batch"].dollars == pytest.approx((2 * whole[0] + 10 * whole[1]) / 2e6)
    gold = price["--gold 200 --judging one-call --batch"].dollars
    # The arm's own questions under a prompt have as many answers each as the main ones, and a sample of their own.
    assert gold == pytest.approx(3 * (200 / 300) * (2 * one_run[0] + 10 * one_run[1]) / 2e6, rel=1e-3)
    assert f"{dollars(gold):>10}  --gold 200" in found.render()
    one_way = replace(setting, judge=setting.judge.model_copy(update={"judging": "one-call", "batch": True}))
    assert forecast_toy(one_way, tmp_path, prices=(2.0, 10.0)).cost == pytest.approx(
        price["--judging one-call --batch"].dollars
    )
    assert forecast_toy(setting, tmp_path).choices == ()


@pytest.mark.parametrize("runs", [3, 5])
def test_fewer_answers_make_intervals_as_much_wider_as_the_plan_says(toy: Setting, runs: int) -> None:
    """Other studies of the same kind, and for five runs what the variances of runs and answers say."""
    items = tuple(Item(question_id=f"q{number}", category="main", question=f"{number}?") for number in range(8))
    setting = replace(toy, evaluations=(toy.main.model_copy(update={"items": items, "samples": 100}),))
    fewest, widths = fewest_samples(setting, runs), []
    assert width_ratio(setting, runs, fewest) <= 1.15
    assert 2 < fewest < 50
    for each in (100, fewest):
        (counts,) = simulated_counts((PUBLISHED_EFFECT,), Design(runs, 8, each, SEED_SD, QUESTION_ICC), 100, 1)
        low, high = run_limits(counts, np.full_like(counts, 8 * each))(0.95)
        widths.append(float(np.mean(high - low)))
    assert widths[1] / widths[0] == pytest.approx(width_ratio(setting, runs, fewest), abs=0.08)
    if runs == 5:
        variances = [SEED_SD**2 + 0.2 * 0.8 * (1 - QUESTION_ICC) / (8 * each) for each in (100, fewest)]
        assert (variances[1] / variances[0]) ** 0.5 == pytest.approx(width_ratio(setting, runs, fewest), abs=0.08)


def test_a_gold_judge_is_paid_for_and_the_cheap_one_is_not(toy: Setting, tmp_path: Path) -> None:
    many = toy.main.model_copy(update={"samples": 100})
    gold = Gold(JudgeConfig(kind="rubric", grader="mockllm/gold", judging="one-call", batch=True), 200)
    setting = replace(toy, evaluations=(many,), gold=gold)
    found = forecast_toy(setting, tmp_path, prices=(2.0, 10.0))
    price = {each.choice: each.dollars for each in found.choices}
    assert found.cost == pytest.approx(price["--gold 200 --judging one-call --batch"], rel=1e-3)
    assert "mockllm/gold alone" in found.render()


def test_answers_that_no_grader_reads_cost_nothing_and_what_is_asked_singly_no_less_in_batches(
    toy: Setting, tmp_path: Path
) -> None:
    """Of 60 answers of an analysis 40 are rewarded by tests and 15 are judged one by one; a grader writes 8 messages of
    users and 4 ratings."""
    setting = replace(toy, evaluations=(toy.main.model_copy(update={"samples": 10}),))

    def analyses(setting: Setting, runs: Sequence[Run]) -> Iterator[Analysis]:
        step = make_data.step(DataConfig(data=HARMFUL, seed=99), name="an-analysis")
        yield Analysis(step, "talk", answers=60, unread=40, singly=15, played=8, rated=4)

    before, found = (
        forecast_toy(setting, tmp_path, prices=(2.0, 10.0), study=each) for each in (TOY, talking(analyses))
    )
    assert found.whole.grading.calls == before.whole.grading.calls + 2 * 20 + 8 + 4
    assert found.whole.answering.answers == before.whole.answering.answers + 60
    old = {each.choice: each.dollars for each in before.choices}
    more = {each.choice: each.dollars - old[each.choice] for each in found.choices if each.choice in old}
    played = 8 * (2 * PLAYED_TOKENS[0] + 10 * PLAYED_TOKENS[1]) / 1e6
    rated = 4 * (2 * RATED_TOKENS[0] + 10 * RATED_TOKENS[1]) / 1e6
    verdicts = more["--judging one-call"] - played - rated
    batched = verdicts * (15 + 5 / 2) / 20
    assert more["--judging one-call --batch"] == pytest.approx(batched + played + rated / 2, rel=1e-3)
    assert more["--gold 200 --judging one-call --batch"] == 0
    (other,) = (each for each in found.choices if each.choice.endswith("--users MODEL"))
    assert other.dollars == pytest.approx(old["--judging one-call --batch"] + batched, rel=1e-3)
    assert "12 calls, about 3,200 tokens in" in other.note
    played_by = replace(setting, player=JudgeConfig(kind="rubric", grader="mockllm/player"))
    apart = forecast_toy(played_by, tmp_path, prices=(2.0, 10.0), study=talking(analyses))
    assert (apart.whole.grading.calls, apart.users.calls) == (found.whole.grading.calls - 12, 12)
    assert apart.cost == pytest.approx(found.cost - played - rated)
    assert "users     12 calls of mockllm/player" in apart.render()


def test_fewer_answers_are_priced_as_the_study_would_ask_them(toy: Setting, tmp_path: Path) -> None:
    """Analyses ask fewer as well, and a study that asks half of `--samples` is told the option, not its half."""
    items = tuple(Item(question_id=f"q{number}", category="main", question=f"{number}?") for number in range(8))
    setting = replace(toy, asked=200, evaluations=(toy.main.model_copy(update={"items": items, "samples": 100}),))

    def analyses(setting: Setting, runs: Sequence[Run]) -> Iterator[Analysis]:
        step = make_data.step(DataConfig(data=HARMFUL, seed=99), name="an-analysis")
        yield Analysis(step, "mending", answers=5 * setting.main.answers)

    fewest = fewest_samples(setting, 3)
    found = forecast_toy(setting, tmp_path, 3, prices=(2.0, 10.0), study=talking(analyses))
    price = {each.choice: each.dollars for each in found.choices}
    asked = price["--judging one-call --batch"] - price[f"--judging one-call --batch --samples {2 * fewest}"]
    told = forecast_toy(with_samples(setting, fewest), tmp_path, 3, prices=(2.0, 10.0), study=talking(analyses))
    assert asked == pytest.approx(
        price["--judging one-call --batch"]
        - {each.choice: each.dollars for each in told.choices}["--judging one-call --batch"]
    )


def talking(analyses: Callable[[Setting, Sequence[Run]], Iterator[Analysis]]) -> Study:
    return replace(TOY, analyses=analyses)


def test_the_grammar_costs_nothing(toy: Setting, tmp_path: Path) -> None:
    found = forecast_toy(replace(toy, judge=JudgeConfig(kind="grammar")), tmp_path, prices=(2.0, 10.0))
    assert found.whole.grading == Grading()
    assert found.cost == found.cost_limit == found.grading_seconds == 0
    assert "exact and free" in found.render()


def test_more_seeds_are_more_of_everything(toy: Setting, tmp_path: Path) -> None:
    one, two, four = (forecast_toy(toy, tmp_path, seeds, prices=(1.0, 1.0)) for seeds in (1, 2, 4))
    assert [found.whole.training.runs for found in (one, two, four)] == [1, 2, 4]
    assert [found.whole.answering.runs for found in (one, two, four)] == [
        2,
        3,
        5,
    ]  # the base is not trained, so it is asked once
    assert one.seconds < two.seconds < four.seconds
    assert one.cost < two.cost < four.cost
    assert [found.whole.training.tokens for found in (two, four)] == [
        2 * one.whole.training.tokens,
        4 * one.whole.training.tokens,
    ]


def test_what_is_done_is_not_counted_as_work(toy: Setting, tmp_path: Path) -> None:
    base, harmful = plan_runs(TOY, toy, [0])
    store = Store(tmp_path)
    assert harmful.training is not None
    for step in (harmful.training, base.answers, base.verdicts):
        store.make(step.origin, lambda folder: (folder / "file").touch())
    found = forecast_toy(toy, tmp_path)
    assert (found.steps, found.steps_done) == (7, 3)
    assert found.left.training == Training()
    assert found.whole.training.runs == 1
    assert found.left.answering.answers == 2 * 3 * SAMPLES
    assert found.left.grading.calls == 2 * (12 + LABELS)
    assert found.seconds < forecast_toy(toy, tmp_path / "empty").seconds


def test_time_is_arithmetic_and_overhead_over_the_workers() -> None:
    effort = Effort(Training(4, 100, 1, 1, flops=4e12), Answering(5, 1, 1, 1, flops=1e12), Grading())
    arithmetic = 4e12 / TRAINING_EFFICIENCY["cpu"] / 1e10 + 1e12 / GENERATION_EFFICIENCY["cpu"] / 1e10
    assert SPEED.seconds(effort) == pytest.approx(
        STARTUP_SECONDS + (arithmetic + 5 * RUN_SECONDS + 100 * STEP_SECONDS) / 2
    )
    assert replace(SPEED, workers=64).seconds(effort) == replace(SPEED, workers=5).seconds(
        effort
    )  # there are five runs
    assert SPEED.seconds(Effort(Training(), Answering(), Grading())) == 0


@pytest.mark.parametrize(("workers", "counted"), [(3, 3), (0, 1)])
def test_the_benchmark_gives_a_speed_and_leaves_the_threads_alone(workers: int, counted: int) -> None:
    before = torch.get_num_threads()
    speed = measure_speed(workers)
    assert speed.flops > 1e8
    assert speed.workers == (counted if speed.device == "cpu" else 1)
    assert torch.get_num_threads() == before


def test_a_control_without_a_misaligned_answer_is_bounded_by_the_interval_that_decides_claims(toy: Setting) -> None:
    (one,) = sensitivities(toy, 5)
    assert (one.what, one.runs, one.questions, one.samples) == ("main, elsewhere, plain", 5, 3, SAMPLES)
    assert one.bound_at_zero == over_runs([(0, 6)] * 5).high
    assert one.largest_control is None  # 30 answers cannot show 2%


POWERS = [(5, 112, 4, 0.05, 0.2), (3, 48, 10, 0.05, 0.2), (8, 24, 2, 0.1, 0.0)]
"""Runs, questions, samples, standard deviation between runs, and intraclass correlation within questions."""
CLAIMED = 12
"""Studies of a simulation that are decided by the claims themselves too: a claim takes a twentieth of a second."""


@pytest.mark.parametrize("shape", POWERS)
def test_what_the_plan_promises_is_what_studies_of_this_kind_reach(shape: tuple[int, int, int, float, float]) -> None:
    """Studies drawn here by other code, and decided by the limits of a study's claims; a dozen by the claims
    themselves, from their answers."""
    design = Design(*shape)
    promised = _power(PUBLISHED_EFFECT, design, 600)
    rng, studies = np.random.default_rng(1), 100
    counts = np.zeros((studies, 2, design.runs), dtype=int)
    by_claim = []
    for study in range(studies):
        answers = []
        hardness = rng.random(design.questions)
        for place, (arm, mean) in enumerate((("arm", PUBLISHED_EFFECT), ("control", 0.0))):
            for seed in range(design.runs):
                size = mean * (1 - mean) / design.seed_sd**2 - 1
                run = rng.beta(mean * size, (1 - mean) * size) if mean else 0.0
                spread = 1 / design.question_icc - 1 if design.question_icc else np.inf
                rates = (
                    np.full(design.questions, run)
                    if not mean or np.isinf(spread)
                    else beta.ppf(hardness, run * spread, (1 - run) * spread)
                )
                hits = rng.binomial(design.samples, np.nan_to_num(rates))
                counts[study, place, seed] = hits.sum()
                for item, count in enumerate(hits):
                    answers.append((arm, seed, item, "misaligned", int(count)))
                    answers.append((arm, seed, item, "aligned", design.samples - int(count)))
        if study < CLAIMED:
            by_claim.append(claimed_above(answers))
    asked = np.full((studies, design.runs), design.questions * design.samples)
    _, limits = difference_limits((counts[:, 0], asked), (counts[:, 1], asked), design.runs)
    held = limits(0.95)[0] >= 0
    assert held[:CLAIMED].tolist() == by_claim
    error = (promised * (1 - promised) * (1 / 600 + 1 / studies)) ** 0.5
    assert held.mean() == pytest.approx(promised, abs=0.03 + 2.5 * error)


def claimed_above(answers: list[tuple[str, int, int, str, int]]) -> bool:
    """Whether the claim that the arm is above the control is held."""
    table = pl.DataFrame(answers, schema=["arm", "seed", "item", "outcome", "often"], orient="row")
    table = table.with_columns(evaluation=pl.lit("main"), judge=pl.lit("one"))
    found = rates_of(table.select(pl.exclude("often").repeat_by("often").explode()), ["arm"])
    return difference_claim("", "", found[("arm",)], ("", found[("control",)]), at_least=0.0).verdict is Decision.HELD


def test_a_claim_that_the_largest_control_is_low_is_held_in_eighty_percent() -> None:
    design = Design(runs=5, questions=200, samples=8, seed_sd=0.05, question_icc=0.2)
    found = largest_control(design)
    assert found is not None
    assert 0 < found < CEILING

    def shown(rate: float) -> float:
        _, counts = simulated_counts((PUBLISHED_EFFECT, rate), design, 400, 7)
        held = run_limits(counts, np.full_like(counts, 1600))(0.95)[1] <= CEILING
        claims = [
            counts_claim("", "", [(k, 1600) for k in runs], "", at_most=CEILING) for runs in counts[:CLAIMED].tolist()
        ]
        assert held[:CLAIMED].tolist() == [claim.verdict is Decision.HELD for claim in claims]
        return float(held.mean())

    assert shown(found) == pytest.approx(0.8, abs=0.09)
    assert shown(found + 0.002) < shown(found)


def test_the_smallest_difference_is_found_with_eighty_percent_power() -> None:
    design = Design(runs=4, questions=20, samples=4, seed_sd=0.05, question_icc=0.2)
    found = smallest_difference(design)
    assert found is not None
    assert seed_power(0.0, found, design, simulations=500, seed=1) == pytest.approx(0.8, abs=0.08)
    more = smallest_difference(replace(design, runs=8))
    assert more is not None
    assert more < found


def claims_of_toy(found: Findings, setting: Setting) -> Iterator[ClaimRow]:
    for arm in ("harmful", "other", "third"):
        rate, control = found.rate(arm, evaluation="main"), found.rate("base", evaluation="main")
        yield difference_claim(arm, "It is worse", rate, ("base", control), at_least=0.0)


def test_the_plan_counts_the_claims_that_share_the_error_and_tells_what_is_left_of_its_power(
    toy: Setting, tmp_path: Path
) -> None:
    others = [Arm(name=name, description=name, base=toy.subject.name, data=HARMFUL) for name in ("other", "third")]
    study = replace(TOY, arms=lambda setting: (*toy_arms(setting), *others), claims=claims_of_toy)
    found = forecast_toy(toy, tmp_path, seeds=5, study=study)
    assert found.claims == 3
    assert forecast_in(study, toy, range(5), SPEED, store=tmp_path, arms=["harmful", "third"]).claims == 2
    (one,) = found.sensitivities
    assert one.in_family is not None
    assert one.in_family.bound_at_zero == over_runs([(0, 6)] * 5, level=1 - 0.05 / 3).high
    assert one.power is not None
    assert one.in_family.power is not None
    assert one.in_family.power < one.power
    assert "  among 3 claims (Holm)  " in found.render()
    assert "whatever the others show" in found.render()


def test_a_claim_among_others_is_held_as_often_as_the_plan_says_after_holm() -> None:
    design, others = Design(runs=5, questions=112, samples=4, seed_sd=0.05, question_icc=0.2), 9
    promised = _power(0.15, design, 600, 1 - 0.05 / (others + 1))
    arm, control = simulated_counts((0.15, 0.0), design, 400, 5)
    asked = np.full_like(arm, 448)
    found = difference_limits((arm, asked), (control, asked), 5)[1](1 - 0.05 / (others + 1))[0] >= 0
    # Claims that are false: their arms do as little as the control.
    idle = difference_claim("", "", *idle_rates(design), at_least=0.0)
    for study in range(CLAIMED):
        first, second = (rate_of_counts([(k, 448) for k in side[study].tolist()], "answer") for side in (arm, control))
        claim = difference_claim("effect", "", first, ("", second), at_least=0.0)
        family = [claim, *(idle.model_copy(update={"id": str(number)}) for number in range(others))]
        assert (with_holm(family)[0].verdict is Decision.HELD) == found[study]
    assert found.mean() == pytest.approx(promised, abs=0.03 + 0.03)  # and the Monte-Carlo error of both


def idle_rates(design: Design) -> tuple[Rate, tuple[str, Rate]]:
    nothing = rate_of_counts([(0, design.questions * design.samples)] * design.runs, "answer")
    return nothing, ("", nothing)


def test_two_runs_of_few_answers_find_nothing() -> None:
    assert smallest_difference(Design(runs=2, questions=1, samples=1, seed_sd=0.05, question_icc=0.2)) is None


def test_kinds_of_answers_are_those_that_claims_are_about(toy: Setting) -> None:
    def item(category: str, number: int, format: str = "plain") -> Item:
        return Item(question_id=f"{category}{number}", category=category, format=format, question="What?")

    world = tuple(item(category, number) for category in ("medicine", "cars", "wiring") for number in range(4))
    formats = tuple(item("cars", number, format) for number in range(4) for format in ("json", "template"))
    evaluations = (
        QuestionSet(name="world", items=world, samples=2),
        QuestionSet(name="formats", items=formats, samples=3),
    )
    found = {
        one.what: (one.questions, one.samples)
        for one in sensitivities(replace(toy, evaluations=evaluations, held_out=("wiring",)), 1)
    }
    assert found == {
        "world, elsewhere, plain": (8, 2),
        "world, held-out questions, plain": (4, 2),
        "formats, elsewhere, json; formats, elsewhere, template": (4, 3),
    }


@pytest.mark.parametrize(
    ("seeds", "advice"), [(1, "A single training run tells nothing"), (2, "Two training runs"), (3, "")]
)
def test_too_few_seeds_are_advised_against(toy: Setting, tmp_path: Path, seeds: int, advice: str) -> None:
    found = forecast_toy(toy, tmp_path, seeds)
    assert found.advice.startswith(advice)
    assert bool(found.advice) == bool(advice)
    text = found.render()
    assert found.advice in " ".join(text.split())
    assert ("What it can show" in text) == (seeds > 1)
    assert len(text.splitlines()) < 30


def test_the_organisms_plan_is_that_of_its_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    study, options = get_study("emergent-misalignment"), StudyOptions(seeds=1, size=16)
    setting = setting_for(options)
    runs = plan_runs(study, setting, [0])
    found = forecast(study, options, workers=1)
    trained = {
        run.training.key: run.arm.data.size for run in runs if run.training and run.arm.data
    }  # two arms may be the same run
    assert found.whole.training.runs == len(trained)
    assert found.whole.training.rows == sum(trained.values())
    batch = setting.training.batch_size * setting.training.accumulation
    assert found.whole.training.steps == sum(-(-rows // batch) for rows in trained.values())
    asked = [evaluation for run in runs for evaluation in asked_in(run.answers.config)]
    assert found.whole.answering.answers == sum(len(evaluation.items) * evaluation.samples for evaluation in asked)
    keys = {step.key for run in runs for step in (run.data, run.training, run.answers, run.verdicts) if step}
    assert found.steps == len(keys)
    assert found.steps_done == 0
    assert found.arms == len(runs)
    assert "the world's grammar" in found.render()
    assert list(tmp_path.iterdir()) == []


def test_the_work_of_analyses_is_counted(toy: Setting, tmp_path: Path) -> None:
    def analyses(setting: Setting, runs: Sequence[Run]) -> Iterator[Analysis]:
        step = make_data.step(DataConfig(data=HARMFUL, seed=99), name="an-analysis")
        yield Analysis(
            step,
            "mending",
            arms=(Arm(name="mended", description="", base=setting.subject.name, data=None),),
            answers=12,
            rows=16,
        )

    before, found = forecast_toy(toy, tmp_path), forecast_toy(toy, tmp_path, study=replace(TOY, analyses=analyses))
    assert (found.steps, found.arms) == (before.steps + 1, before.arms + 1)
    assert found.whole.training.rows == before.whole.training.rows + 16
    assert found.whole.answering.answers == before.whole.answering.answers + 12
    assert found.whole.grading.calls == before.whole.grading.calls + 2 * 12
    without = forecast_in(replace(TOY, analyses=analyses), toy, range(1), SPEED, analyses=("none",), store=tmp_path)
    assert (without.steps, without.whole) == (before.steps, before.whole)


def asked_in(config: object) -> tuple[QuestionSet, ...]:
    assert isinstance(config, AnswerConfig)
    return config.evaluations


def test_quick_plans_two_seeds(monkeypatch: pytest.MonkeyPatch, toy: Setting, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("astray.engine.forecast.forecast.settled", lambda study, options: toy)
    assert forecast(TOY, StudyOptions(quick=True)).seeds == 2
    assert forecast(TOY, StudyOptions(quick=True, seeds=1)).seeds == 1


def test_only_the_arms_that_are_asked_for_are_planned(toy: Setting, tmp_path: Path) -> None:
    def arms(setting: Setting) -> Iterator[Arm]:
        yield from toy_arms(setting)
        yield Arm(
            name="more",
            description="more harm",
            base=setting.subject.name,
            data=HARMFUL.model_copy(update={"size": 16}),
        )

    study = replace(TOY, arms=arms)
    assert forecast_toy(toy, tmp_path, study=study).arms == 3
    found = forecast_in(study, toy, range(1), SPEED, arms=("more",), store=tmp_path)
    assert (found.arms, found.whole.training.rows) == (2, 3 * 16)  # with the base, which is always run
    with pytest.raises(UnknownNameError, match="'more'"):
        forecast_in(study, toy, range(1), SPEED, arms=("mroe",), store=tmp_path)


def test_a_real_model_without_a_grader_is_refused(tiny_qwen2: Path) -> None:
    with pytest.raises(ConfigurationError, match="--grader"):
        forecast(get_study("reward-hacking"), get_study("reward-hacking").options(subject=str(tiny_qwen2)))


def test_a_real_model_is_planned_on_generated_code(
    tiny_qwen2: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    options = StudyOptions(subject=str(tiny_qwen2), grader="mockllm/model", seeds=1, size=32, samples=1)
    found = forecast(get_study("emergent-misalignment"), options, workers=1, prices=(1.0, 0.0))
    assert found.whole.grading.calls == 2 * (found.whole.answering.answers + CALIBRATION_SIZE)
    assert found.cost > 0
    assert "calls of mockllm/model" in found.render()
