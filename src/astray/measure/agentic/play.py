"""Play of the grid of an agentic study: each subject in every cell, without a monitor and under each one, in Inspect.

    logs/*.eval     Inspect logs: `inspect view --log-dir` opens them
    acts.parquet    one row a sample (see measure/agentic/table.py)

Each piece, some replicates of one scenario under one monitor, is a step with a working folder that survives kills. A
sample is known by its cell and replicate: what is in a log is not asked again. A piece of which samples ended in an
error, have no verdict or found the budget spent is provisional, so the same command tries those again. A sample without
a verdict is judged again and not played again: a judge that fails at harm more often than at harmless work would make
the rate too low.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import polars as pl
from inspect_ai import eval as inspect_eval
from inspect_ai import score
from inspect_ai.approval import ApprovalPolicy
from inspect_ai.log import read_eval_log, read_eval_log_samples_by_id, write_eval_log
from pydantic import Field, model_serializer

from astray.artifacts import Artifact, Step, StepFunction, current_ledger, step
from astray.errors import JudgeError, StepFailedError
from astray.judges.metering import metered
from astray.judges.patience import patience
from astray.judges.served import named_in_key
from astray.measure.agentic.budget import BUDGETED, Budget
from astray.measure.agentic.conduct import Conduct
from astray.measure.agentic.factors import BASELINE
from astray.measure.agentic.grid import Grid
from astray.measure.agentic.judging import VERSION
from astray.measure.agentic.logs import finished
from astray.measure.agentic.scenario import load_scenario
from astray.measure.agentic.scoring import two_keys
from astray.measure.agentic.subjects import AgenticSubject, graders_in_key
from astray.measure.agentic.surface import texts_digest
from astray.measure.agentic.table import CONDUCT_SCHEMA, as_acts
from astray.measure.agentic.task import agentic_task
from astray.strict import Strict
from astray.subjects.locate import settle

ACTS_FILE, LOGS = "acts.parquet", "logs"
LOG_BUFFER = 20
"""Number of samples after which a log is written out: as many at most are asked again after a kill."""
SIMULATED_AT_A_TIME = 16
"""Samples at a time of scripted subjects, which wait for nothing; more would only take memory."""
PIECE = 250
"""About the most samples of a piece. Inspect keeps scores of all samples of an evaluation in memory and goes through
them at each further one."""


@dataclass(frozen=True)
class Part:
    """Grid of a subject under one monitor.

    Attributes:
        name: of the part.
        grid: scenarios, cells and replicates.
        monitor: runtime monitor, "none" without.
        is_made: whether the monitor is made from the run without one, of subjects whose activations can be read.
    """

    name: str
    grid: Grid
    monitor: str = "none"
    is_made: bool = False


class PlayConfig(Strict):
    """Piece of a part: all that can change what is measured, and nothing else."""

    subject: AgenticSubject
    weights: str = Field(
        description="content of a local subject, so that new weights under an old name are another piece"
    )
    grid: Grid = Field(description="of one scenario")
    first: int = Field(description="first replicate; the last is that of the grid")
    texts: str = Field(description="content of the scenario")
    monitor: str
    max_tokens: int
    judging: int = Field(VERSION, description="version of what judges are asked")
    served: tuple[str, ...] = Field((), description="what is known of the model and its graders beside their names")

    @model_serializer(mode="wrap")
    def _without_nothing(self, handler: Callable[[Any], dict[str, Any]]) -> dict[str, Any]:
        # Left out where nothing is known, so that such pieces have the keys that they had before.
        shown = handler(self)
        known = self.weights or "".join(self.served[:1])
        shown["subject"] |= {
            "model": named_in_key(self.subject.model, known),
            "grader": graders_in_key(self.subject.grader, self.served[1:]),
        }
        if self.weights:  # of the adapter too
            shown["subject"]["arguments"].pop("adapter", None)
        return {name: value for name, value in shown.items() if name != "served" or value}

    @property
    def numbers(self) -> range:
        """Return the indices of the samples in the grid."""
        return range(self.first * len(self.grid.cells), self.grid.size)


@step("play", version=1, resumable=True, gpu=lambda config: config.subject.local is not None)
def play(config: PlayConfig, inputs: Mapping[str, Artifact], folder: Path) -> str | None:
    """Play a piece."""
    del inputs
    return play_piece(config, folder)


def play_piece(config: PlayConfig, folder: Path, approval: ApprovalPolicy | None = None) -> str | None:
    """Run what is left of a piece, write its table, and return what is left to try.

    The judges are asked again about samples of which none of them gave a verdict.

    Args:
        config: the piece.
        folder: holds logs of earlier attempts.
        approval: the monitor, where its name does not say what it is.

    Raises:
        StepFailedError: the evaluation broke off.
        JudgeError: a grader was given up, with the samples kept in the folder.
    """
    logs, grid, ledger = folder / LOGS, config.grid, current_ledger()
    table = finished(logs, grid, config.numbers)
    with patience() as patient:
        if (ledger is None or not ledger.exhausted) and judge_again(config.subject, logs, table):
            table = finished(logs, grid, config.numbers)
        there = set(table.filter(pl.col("outcome") != Conduct.ERRORED)["sample"])
        left = [number for number in config.numbers if grid.sample_id(number) not in there]
        if left and not patient.lost and (ledger is None or not ledger.exhausted):
            _evaluate(config, logs, left, Budget(ledger) if ledger else None, approval)
            table = finished(logs, grid, config.numbers)
    table.write_parquet(folder / ACTS_FILE)
    counts = dict(table["outcome"].value_counts().iter_rows())
    if patient.lost and (unread := counts.get(Conduct.JUDGE_FAILED, 0)):
        raise JudgeError(
            f"Judging was stopped: {patient.lost}. {len(table):,} samples are kept, {unread:,} of them without a "
            "verdict. Mend the cause and run the same again: those are judged and not played again."
        )
    unsettled = {
        "not asked, since the budget is spent": len(config.numbers) - len(table),
        "ended in an error": counts.get(Conduct.ERRORED, 0),
        "without a verdict": counts.get(Conduct.JUDGE_FAILED, 0),
    }
    return ", ".join(f"{count:,} samples {why}" for why, count in unsettled.items() if count) or None


def play_steps(
    subject: AgenticSubject, part: Part, max_tokens: int, function: StepFunction[PlayConfig] = play, **inputs: Step
) -> Iterator[Step]:
    """Yield the steps in which a subject plays a part.

    Args:
        subject: who.
        part: what.
        max_tokens: longest answer.
        function: plays a piece; another than `play` for a monitor that is made from `inputs`.
        inputs: what that function reads.
    """
    own = subject.model_copy(update={"reader": None, "speed": None, "price": None})  # they change no sample
    weights = settle(subject.local).id if subject.local else ""
    for grid, first, most in _pieces(part.grid):
        [scenario] = grid.scenarios
        texts = texts_digest(load_scenario(scenario), grid.surface)
        config = PlayConfig(
            subject=own,
            weights=weights,
            grid=grid,
            first=first,
            texts=texts,
            monitor=part.monitor,
            max_tokens=max_tokens,
            served=subject.served,
        )
        named = f"{subject.name}, {part.name}, {grid.cells[0].scenario} {first}"
        piece = function.step(config, name=named, **inputs)
        yield replace(piece, begins_with=tuple(_keys_of_other_sizes(piece, grid, range(most, first, -1))))


def _pieces(grid: Grid) -> Iterator[tuple[Grid, int, int]]:
    """Yield each piece's grid, its first replicate and the most that its last could be.

    A piece has one scenario, so that others, and other texts of others, leave it as it is. The first replicates of all
    come first.
    """
    pieces = []
    for scenario in dict.fromkeys(cell.scenario for cell in grid.cells):
        cells = [cell for cell in grid.cells if cell.scenario == scenario]
        first, *also = [
            {name: (value,) for name, value in cell.factors if value != getattr(BASELINE, name)} for cell in cells
        ]
        size = max(1, PIECE // len(cells))
        for start in range(0, grid.replicates, size):
            last = min(start + size, grid.replicates)
            own = Grid(
                scenarios=(cells[0].source,), factors=first, also=tuple(also), replicates=last, surface=grid.surface
            )
            pieces.append((own, start, start + size))
    yield from sorted(pieces, key=lambda piece: piece[1])


def _keys_of_other_sizes(piece: Step, grid: Grid, replicates: Iterable[int]) -> Iterator[str]:
    """Yield the keys of the same piece with other numbers of replicates, which hold some of its samples."""
    shown = grid.model_dump(mode="json")
    for number in replicates:
        if number != grid.replicates:
            config = piece.origin.config | {"grid": shown | {"replicates": number}}
            yield piece.origin.model_copy(update={"config": config}).key


def _evaluate(
    config: PlayConfig, logs: Path, numbers: Sequence[int], budget: Budget | None, approval: ApprovalPolicy | None
) -> None:
    """Run some samples of a piece as one evaluation, with a log of its own."""
    subject = config.subject
    task = agentic_task(
        config.grid,
        max_tokens=config.max_tokens,
        audited=True,
        probe=True,
        monitor=config.monitor,
        approval=[approval] if approval else None,
        numbers=numbers,
        budget=budget,
    )
    logs_of_run = inspect_eval(
        task,
        model=subject.make(),
        model_roles=dict(subject.make_graders()),
        log_dir=str(logs),
        display="none",
        log_realtime=False,
        log_buffer=LOG_BUFFER,
        max_samples=BUDGETED if budget is not None else SIMULATED_AT_A_TIME if subject.simulated else None,
    )
    # Inspect has written what was finished, and gives no log of it.
    if not logs_of_run or logs_of_run[0].status == "cancelled":
        raise KeyboardInterrupt
    [log] = logs_of_run
    if log.status != "success":
        error = log.error.message if log.error else log.status
        raise StepFailedError(
            f"The evaluation of {subject.name!r} broke off: {error} What it finished is kept; run the same command "
            "to go on.",
            {subject.name: log.error.traceback if log.error else ""},
        )


def read_acts(subject: AgenticSubject, folders: Sequence[Path]) -> pl.DataFrame:
    """Return the samples of a part, replicate after replicate, with the subject's short name in place of the model's."""
    tables = [as_acts(pl.read_parquet(folder / ACTS_FILE)) for folder in folders]
    named = pl.lit(subject.name, dtype=CONDUCT_SCHEMA["subject"])
    return pl.concat(tables).sort("replicate", "sample").with_columns(subject=named)


def judge_again(subject: AgenticSubject, logs: Path, table: pl.DataFrame) -> int:
    """Judge the samples that have no verdict once more, and write them beside their logs.

    Returns:
        How many samples were read again.
    """
    failed = table.filter(pl.col("outcome") == Conduct.JUDGE_FAILED.value)
    for (name,), rows in failed.group_by("log", maintain_order=True):
        path = logs / str(name)
        log = read_eval_log(str(path), header_only=True)
        of = int((log.eval.metadata or {})["grid"]["replicates"])
        # The replicates of a further epoch are numbered after those of the first.
        wanted = [(sample, 1 + replicate // of) for sample, replicate in rows.select("sample", "replicate").iter_rows()]
        log.samples = read_eval_log_samples_by_id(str(path), wanted, resolve_attachments="full")
        graders = {role: metered(model) for role, model in dict(subject.make_graders()).items()}
        judged = score(
            log,
            two_keys(audited=True),
            model=subject.make(),
            model_roles=graders,
            action="overwrite",
            display="none",
            copy=False,
        )
        number = 1 + len(list(logs.glob(f"{path.stem}-judged*")))
        write_eval_log(judged, str(logs / f"{path.stem}-judged{number}.eval"))
    return len(failed)
