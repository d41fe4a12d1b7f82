"""Steps with a working folder that survives, artifacts that are provisional, and what all steps may spend together."""

from dataclasses import replace
from pathlib import Path

import pytest

from astray.artifacts import Ledger, Progress, Step, StepState, Store, execute
from astray.artifacts.ledger import spending
from astray.artifacts.plan import Plan
from astray.errors import ConfigurationError, StepFailedError, StoreError
from toy_steps import Toy, add, gather, settle_later, spend


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("*.txt"))


def done_in(store: Store, *steps: Step, workers: int = 0) -> list[str]:
    """Execute, and tell which steps were really done."""
    told: list[Progress] = []
    execute(steps, store, workers=workers, progress=told.append)
    return [event.name for event in told if event.state is StepState.FINISHED]


@pytest.mark.parametrize("fault", ["error", "disk full"])
def test_what_a_failed_step_wrote_is_gone_on_with(tmp_path: Path, fault: str) -> None:
    store, step = Store(tmp_path), gather.step(Toy(number=1, fault=fault))
    with pytest.raises((StepFailedError, StoreError)):
        execute([step], store, workers=0)
    assert store.artifacts() == ()
    artifact = execute([step], store, workers=0)[step.key]
    assert names(artifact.path) == ["0.txt", "1.txt"]
    assert list((tmp_path / ".unfinished").iterdir()) == []


def test_a_step_whose_worker_is_killed_goes_on_from_its_working_folder(tmp_path: Path) -> None:
    store, step = Store(tmp_path), gather.step(Toy(number=1, fault="killed"))
    with pytest.raises(StepFailedError, match="SIGKILL"):
        execute([step], store, workers=1)
    assert names(execute([step], store, workers=1)[step.key].path) == ["0.txt", "1.txt"]


def test_a_kill_between_the_manifest_and_the_move_costs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, step = Store(tmp_path), gather.step(Toy(number=1))

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("astray.artifacts.store.move_into_place", killed)
        with pytest.raises(KeyboardInterrupt):
            execute([step], store, workers=0)
    assert names(execute([step], store, workers=0)[step.key].path) == ["0.txt", "1.txt"]


@pytest.mark.parametrize("root", ["local", "remote"])
def test_a_provisional_artifact_counts_now_and_is_done_again_with_all_that_build_on_it(
    tmp_path: Path, root: str
) -> None:
    def opened() -> Store:
        if root == "local":
            return Store(tmp_path)
        return Store(f"memory://{tmp_path.name}", cache=tmp_path / "cache")

    first = gather.step(Toy(number=3), name="first")
    second = gather.step(Toy(number=1), name="second", before=first)
    other = add.step(Toy(number=7), name="other")
    assert done_in(opened(), second, other) == ["first", "second", "other"]
    kept = opened().get(second.key)
    assert kept is not None
    assert kept.manifest.provisional == "first has something left to try"
    assert (kept.path / "0.txt").read_text() == "1"
    assert Plan([second, other], opened()).done.keys() == {other.key}
    assert done_in(opened(), second, other) == ["first", "second"]
    assert done_in(opened(), second, other) == ["first", "second"]
    [artifact] = [each for each in opened().artifacts() if each.key == second.key]
    assert artifact.path.is_dir()
    assert artifact.manifest.provisional == ""
    assert [(artifact.path / f"{attempt}.txt").read_text() for attempt in range(3)] == ["1", "2", "3"]
    assert done_in(opened(), second, other) == []


@pytest.mark.parametrize("root", ["local", "remote"])
def test_what_depends_on_a_provisional_artifact_is_done_again_only_if_that_changed(tmp_path: Path, root: str) -> None:
    store = (
        Store(tmp_path / "store") if root == "local" else Store(f"memory://{tmp_path.name}", cache=tmp_path / "cache")
    )
    witness = tmp_path / "starts"
    witness.mkdir()
    first = settle_later.step(Toy(number=5, witness=str(tmp_path)))
    second = add.step(Toy(number=1, witness=str(witness)), first=first)
    third = add.step(Toy(number=2, witness=str(witness)), second=second)

    def state() -> tuple[int, str, bool]:
        """How often steps were really done, what came out, and whether that is provisional."""
        artifact = execute([third], store, workers=0)[third.key]
        return (
            len(list(witness.iterdir())),
            (artifact.path / "sum.txt").read_text(),
            bool(artifact.manifest.provisional),
        )

    assert state() == (2, "8", True)
    assert state() == (2, "8", True)
    (tmp_path / "now").write_text("6")
    assert state() == (4, "9", True)
    (tmp_path / "settled").touch()
    assert state() == (4, "9", False)
    assert state() == (4, "9", False)
    assert all(artifact.manifest.read == {} for artifact in store.artifacts())


def test_a_provisional_artifact_stays_while_its_step_fails_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, step = Store(tmp_path), gather.step(Toy(number=2))
    before = execute([step], store, workers=0)[step.key]
    with monkeypatch.context() as patch:
        patch.setattr("toy_steps.gather.body", lambda *_: 1 / 0)
        with pytest.raises(StepFailedError, match="division by zero"):
            execute([step], store, workers=0)
    assert store.get(step.key) == before
    assert before.path.is_dir()
    assert execute([step], store, workers=0)[step.key].manifest.provisional == ""


def test_a_final_artifact_has_the_manifest_that_it_always_had(tmp_path: Path) -> None:
    step = gather.step(Toy(number=1))
    artifact = execute([step], Store(tmp_path), workers=0)[step.key]
    assert "provisional" not in (artifact.path / "artifact.json").read_text()


def test_a_step_begins_with_the_files_of_one_like_it_and_has_the_key_it_would_have_without(tmp_path: Path) -> None:
    store, small = Store(tmp_path), gather.step(Toy(number=1))
    execute([small], store, workers=0)
    large = replace(gather.step(Toy(number=2)), begins_with=("0" * 64, small.key))
    assert large.key == gather.step(Toy(number=2)).key
    assert names(execute([large], store, workers=0)[large.key].path) == ["0.txt", "1.txt"]
    assert names(execute([small], store, workers=0)[small.key].path) == ["0.txt"]


@pytest.mark.parametrize("workers", [0, 2])
def test_a_ledger_limits_all_steps_together_whatever_the_number_of_workers(tmp_path: Path, workers: int) -> None:
    store, steps = Store(tmp_path), [spend.step(Toy(number=number)) for number in (30, 31, 32)]
    with Ledger.opened(tmp_path, limit=50, spent=10) as ledger:
        artifacts = execute(steps, store, workers=workers, ledger=ledger)
        assert 50 <= ledger.spent <= 50 + workers
        assert ledger.exhausted
    left = [
        int(artifact.manifest.provisional.split()[0])
        for artifact in artifacts.values()
        if artifact.manifest.provisional
    ]
    assert 53 - workers <= sum(left) <= 53
    assert list(tmp_path.glob(".ledger*")) == []
    assert all(not artifact.manifest.provisional for artifact in execute(steps, store, workers=workers).values())


def test_a_ledger_that_lets_nothing_be_spent_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="A budget of 0"), Ledger.opened(tmp_path, 0), spending(None):
        pass
