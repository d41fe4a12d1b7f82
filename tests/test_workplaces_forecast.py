"""`astray plan --on` and `astray run --dry-run`: what is left, with the times that earlier runs took in the same place."""

from pathlib import Path

import pytest

from astray.artifacts import Store, execute
from astray.artifacts.plan import Plan
from astray.artifacts.timings import HERE, Timing, note_timing, timings
from astray.artifacts.workplaces.ray import Ray
from astray.cli import app
from astray.engine.forecast.effort import Answering, added
from astray.engine.forecast.places import place_forecast, simulate
from astray.engine.forecast.speed import Speed
from astray.errors import ConfigurationError
from toy_steps import Toy, add, diamond, slow_at_first

SPEED = Speed("cpu", 1e9, 1)
OPTIONS = [
    *("emergent-misalignment", "--subject", "organism-small", "--seeds", "1", "--size", "32", "--samples", "1"),
    *("--arms", "harmful-medicine"),
]


@pytest.mark.parametrize(
    ("slots", "only_gpu", "wall"),
    [(1, False, 40.0), (2, False, 30.0), (9, False, 30.0), (1, True, 30.0)],
    ids=["one machine", "two machines", "as many as one likes", "no step needs a GPU"],
)
def test_the_wall_time_of_a_diamond(tmp_path: Path, slots: int, only_gpu: bool, wall: float) -> None:
    plan = Plan([diamond()], Store(tmp_path))
    assert simulate(plan, dict.fromkeys(plan.steps, 10.0), slots, only_gpu=only_gpu) == wall


def test_steps_that_run_a_model_wait_for_a_gpu_and_others_do_not(tmp_path: Path) -> None:
    models = [slow_at_first.step(Toy(number=number)) for number in range(4)]
    plan = Plan([*models, add.step(Toy())], Store(tmp_path))
    assert simulate(plan, dict.fromkeys(plan.steps, 10.0), 2, only_gpu=True) == 20.0


def test_times_of_earlier_runs_in_the_same_place_are_used_and_no_others(tmp_path: Path) -> None:
    store, on = Store(tmp_path), Ray(gpus=2.0)
    before = slow_at_first.step(Toy(number=0))
    left = [slow_at_first.step(Toy(number=number)) for number in (1, 2, 3)]
    work = {step.key: (Answering(runs=1, flops=1e12 * (1 + number)),) for number, step in enumerate([before, *left])}
    unmeasured = place_forecast(left, store, on, work, SPEED, 10, 3.0)
    assert (unmeasured.measured, unmeasured.memory) == (0, None)
    store.folder.mkdir(exist_ok=True)
    note_timing(store, Timing(before.key, "slow-at-first", HERE, 1.0, 5, 0))
    assert place_forecast(left, store, on, work, SPEED, 10, 3.0) == unmeasured
    predicted = Speed("cuda", 600e12, 1)
    note_timing(store, Timing(before.key, "slow-at-first", on.label, 7200.0, 5, 9))
    forecast = place_forecast(left, store, on, work, SPEED, 10, 3.0)
    assert forecast.measured == 3
    assert forecast.memory == 9
    ratios = [predicted.seconds(added(work[step.key])) / predicted.seconds(added(work[before.key])) for step in left]
    assert forecast.gpu_seconds == pytest.approx(2 * 7200 * sum(ratios))
    assert forecast.price == pytest.approx(3.0 * forecast.gpu_seconds / 3600)
    assert "3 of 3 step times measured" in forecast.render()


def test_what_a_step_took_is_noted_once(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for _ in range(2):
        execute([add.step(Toy(seconds=0.1))], store, workers=0)
    (timing,) = timings(store, HERE)
    (store.folder / "elsewhere").symlink_to(tmp_path / "mine")
    (store.folder / "elsewhere").replace(store.folder / ".timings")
    note_timing(store, timing)
    assert not (tmp_path / "mine").exists()
    (store.folder / ".timings").unlink()
    assert (timing.function, timing.seconds >= 0.1, timing.memory > 1e6) == ("add", True, True)
    forecast = place_forecast([diamond()], store, Ray(), {}, SPEED, 10)
    assert forecast.unknown == {"add": 4}
    assert forecast.disk is None
    assert "add (4)" in forecast.render()


def test_a_dry_run_lists_steps_and_runs_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["run", *OPTIONS, "--out", str(tmp_path), "--dry-run"]
    app.main(command, standalone_mode=False)
    head, *lines = capsys.readouterr().out.splitlines()
    assert head == "10 steps: 10 would run, 0 are there already"
    assert sum("(train-sft, " in line for line in lines) == 2
    assert not (tmp_path / "store").exists()
    app.main([*command, "--on", "ray", "--gpus", "2"], standalone_mode=False)
    assert capsys.readouterr().out.count("2 GPU\n") == 5  # two trainings, three subjects that answer


def test_a_plan_for_a_cluster_follows_the_studys_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = ["--on", "slurm", "--partition", "gpu", "--gpus", "1", "--price-gpu", "2"]
    app.main(["plan", *OPTIONS, "--out", str(tmp_path), *place], standalone_mode=False)
    told = capsys.readouterr().out.partition("\nOn slurm, partition gpu, 1 GPUs a model: 10 steps to run, 0 there\n")[2]
    for line in ("GPU-hours, 1 a step, $", "with 1 step that runs a model at a time", "the weights alone take 0.00 GB"):
        assert line in told
    with pytest.raises(ConfigurationError, match="--price-gpu is a price of a cluster's GPUs"):
        app.main(["plan", *OPTIONS, "--out", str(tmp_path), "--price-gpu", "2"], standalone_mode=False)
