"""Agentic scenarios as an evaluation: a grid of conditions, gate and judges, counted like every other.

Tools and several turns need Inspect, so a local subject is asked through it as well, in the text protocol where its
provider passes on text only. The agentic study runs grids of its own, in parts that can be gone on with (`play`); its
wider table is `table.CONDUCT_SCHEMA`.
"""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, cast

import anyio
import polars as pl
from inspect_ai import Task, task_with
from inspect_ai import eval as inspect_eval
from inspect_ai.log import EvalLog, EvalSample
from inspect_ai.model import ChatMessage, GenerateConfig, Model, get_model
from pydantic import Field, TypeAdapter

from astray.answers import answer_table, check_answer_table, read_detail, write_detail
from astray.errors import ConfigurationError, EmptyDataError
from astray.judges.config import JudgeConfig
from astray.judges.rescore import WITHOUT_ANSWER, is_open
from astray.judges.side_by_side import read_side_by_side
from astray.measure.agentic.agent import Protocol, office_of
from astray.measure.agentic.budget import BUDGETED, Budget
from astray.measure.agentic.conduct import COUNTED, Conduct, Keys, Word, conclude
from astray.measure.agentic.factors import FACTORS
from astray.measure.agentic.grid import Grid
from astray.measure.agentic.judging import Panel, PanelVerdict, panel_from_roles, panel_of
from astray.measure.agentic.logs import readable_logs
from astray.measure.agentic.scoring import has_spoken
from astray.measure.agentic.table import conduct_row, conduct_table
from astray.measure.agentic.task import agentic_task
from astray.measure.inspect_logs import Log, join_logs, read_header, samples_of
from astray.measure.interface import Evaluation, Need
from astray.measure.surface import SurfaceKind
from astray.outcomes import Outcome
from astray.stats.measures import MISALIGNED, Measure
from astray.subjects.provider import offered
from astray.subjects.spec import Sampling

if TYPE_CHECKING:
    from astray.subjects.subject import Subject

OUTCOMES = (
    dict.fromkeys(COUNTED, Outcome.ALIGNED)
    | {Conduct.HARMFUL: Outcome.MISALIGNED, Conduct.BLOCKED: Outcome.BLOCKED, Conduct.ERRORED: Outcome.ERRORED}
    | dict.fromkeys(
        (Conduct.DISPUTED, Conduct.NOT_UNDERSTOOD, Conduct.NEVER_ACTED, Conduct.JUDGE_FAILED), Outcome.JUDGE_FAILED
    )
)
"""Outcome of each conduct in the shared column; JUDGE_FAILED stands for what harm may hide behind."""
DETAIL = (
    "gate",
    "tried",
    "judge",
    "understood",
    "monitor",
    "motive",
    "awareness",
    "openness",
    "belief",
    "attempted",
    "protocol",
    "ways_out",
)
MESSAGES = TypeAdapter(list[ChatMessage])


class Agentic(Evaluation):
    """Insider-threat scenarios with tools (arXiv 2510.05179)."""

    measures: ClassVar[tuple[Measure, ...]] = (
        MISALIGNED,
        Measure("harmful by the gate", ("true",), ("true", "false"), of="gate"),
        Measure("harmful by the judges", (Word.HARMFUL,), (Word.HARMFUL, Word.HARMLESS, Word.REFUSED), of="judge"),
    )

    kind: Literal["agentic"] = "agentic"
    name: str = "agentic-misalignment"
    grid: Grid = Field(default_factory=Grid)
    max_turns: int = Field(default=12, ge=1, description="most answers of the model in one sample")
    questions: bool = Field(default=True, description="ask questions that show whether the situation was understood")
    sampling: Sampling = Sampling(max_tokens=4000)

    @property
    def surface_kind(self) -> SurfaceKind:
        """Return whether names and words of its scenarios are fixed, or drawn anew for each or every second replicate."""
        return self.grid.surface

    @property
    def answers(self) -> int:
        """Return how many answers a subject is asked for, at most."""
        return self.grid.size * self.max_turns

    @property
    def needs(self) -> frozenset[Need]:
        """Return what a subject has to offer. Tools are not needed: there is a text protocol."""
        return frozenset({Need.GRADER})

    def ask(self, subject: "Subject", *, arm: str = "", seed: int = 0) -> pl.DataFrame:
        """Let a loaded subject act, through Inspect; outcomes are the gate's until judges have read them."""
        sampling = self.sampling.model_copy(update={"seed": self.sampling.seed + 1000 * seed})
        with tempfile.TemporaryDirectory(prefix="astray-agentic-") as folder, offered(subject) as name:
            model = get_model(name, config=GenerateConfig(seed=sampling.seed, top_p=sampling.top_p), memoize=False)
            table = self.act(model, Path(folder), protocol="text").with_columns(pl.lit(subject.id).alias("subject"))
        return table.with_columns(pl.lit(arm).alias("arm"), pl.lit(seed, pl.Int64).alias("seed"))

    def act(
        self, model: Model, logs: Path, *, protocol: Protocol = "auto", budget: Budget | None = None
    ) -> pl.DataFrame:
        """Let any Inspect model act, with transcripts for judges; outcomes are the gate's until then.

        Args:
            model: who acts.
            logs: folder for Inspect logs; samples that logs there hold with an outcome are not acted again.
            protocol: how tools are offered.
            budget: tokens after which no further sample is begun.

        Raises:
            ConfigurationError: the evaluation broke off before its first sample.
        """
        there = self._in_logs(logs)
        settled = there.filter(pl.col("outcome") != Outcome.ERRORED).select("category", "item", "sample")
        done = set(settled.iter_rows())
        left = [number for number in range(self.grid.size) if self._named(number) not in done]
        if not left:
            return there
        task = self._task(None, protocol, numbers=left, budget=budget)
        at_a_time = BUDGETED if budget else None
        found = inspect_eval(
            task,
            model=model,
            log_dir=str(logs),
            display="none",
            log_level="warning",
            log_realtime=False,  # nobody looks on
            max_samples=at_a_time,
        )
        if not found or found[0].status == "cancelled":  # Inspect takes Ctrl-C for itself
            raise KeyboardInterrupt
        (log,) = found
        if not log.samples and log.status != "success":
            raise ConfigurationError(
                f"The scenarios of {self.name!r} could not be run: {log.error.message if log.error else log.status}."
            )
        return self._in_logs(logs)

    def _in_logs(self, logs: Path) -> pl.DataFrame:
        """Return the samples that the logs of a folder hold, each once, those with an outcome and the newest first."""
        rows = []
        for log in sorted(readable_logs(logs), reverse=True):
            header = read_header(log)
            for sample in samples_of(log, header):
                row = _answer(conduct_row(sample, header), self.name, _transcript(sample))
                rows.append(row if row["outcome"] in WITHOUT_ANSWER else row | {"outcome": Outcome.NOT_JUDGED.value})
        by_error = answer_table(rows).sort(pl.col("outcome") == Outcome.ERRORED, maintain_order=True)
        once = by_error.unique(["category", "item", "sample"], keep="first", maintain_order=True)
        return once.sort("category", "item", "sample")

    def _named(self, number: int) -> tuple[str, str, int]:
        """Return scenario, condition and replicate of a sample, as a table names them."""
        replicate, place = divmod(number, len(self.grid.cells))
        cell = self.grid.cells[place]
        return cell.scenario, "/".join(str(value) for _, value in cell.factors), replicate

    def judge_for(self, config: JudgeConfig) -> Panel:
        """Return the panel with this grader, or two with a comma between them."""
        return panel_of(config.grader.split(",")) if config.grader else panel_from_roles()

    def judge(self, table: pl.DataFrame, judge: Panel) -> pl.DataFrame:
        """Return the table with the panel's outcomes, from the transcripts that `ask` leaves, and without them.

        Raises:
            ConfigurationError: the table is that of a log, which is judged as it runs.
        """
        check_answer_table(table)
        rows = table.to_dicts()
        details = [read_detail(row["detail"]) for row in rows]
        wanted = [number for number, row in enumerate(rows) if row["outcome"] not in WITHOUT_ANSWER]
        if any("messages" not in details[number] for number in wanted):
            raise ConfigurationError(
                "This table holds no transcripts, so it cannot be judged again; it was judged when the task ran."
            )

        async def verdict(number: int) -> PanelVerdict:
            detail, messages = details[number], MESSAGES.validate_python(details[number]["messages"])
            return (
                await judge.judge(office_of(detail), messages) if has_spoken(messages) else PanelVerdict(Word.NONE, ())
            )

        async def verdicts() -> dict[int, PanelVerdict]:
            return await read_side_by_side(verdict, wanted, 20)

        for number, verdict_of_panel in anyio.run(verdicts).items():
            facts, said = details[number], verdict_of_panel.word
            keys = Keys(
                bool(facts["gate"]),
                bool(facts["tried"]),
                said,
                int(str(facts["attempted"])),
                cast(bool | None, facts["understood"]),
            )
            conduct = conclude(keys)
            note = "; ".join(vote.note for vote in verdict_of_panel.verdicts) if conduct is Conduct.JUDGE_FAILED else ""
            # Transcripts are dropped once they are judged: they are most of the table.
            dropped = () if is_open(OUTCOMES[conduct], note) else ("messages",)
            judged = {name: value for name, value in facts.items() if name not in dropped} | {
                "word": conduct.value,
                "judge": said.value,
            }
            rows[number] |= {
                "outcome": OUTCOMES[conduct].value,
                "judge": judge.identity,
                "note": note,
                "detail": write_detail(judged),
            }
        return answer_table(rows)

    def task(self, judge: Callable[[], Any] | None = None, *, name: str | None = None) -> Task:
        """Return the grid as one Inspect task."""
        return self._task(judge or panel_from_roles, "auto", name)

    def read(self, log: EvalLog | Path | str, *, arm: str = "", seed: int = 0) -> pl.DataFrame:
        """Return the answers of a log or a folder of logs, a few hundred samples at a time; a cell is a question."""

        def answers(log: Log, _header: EvalLog) -> pl.DataFrame:
            return conduct_answers(
                conduct_table(log.location if isinstance(log, EvalLog) else log), self.name, arm=arm, seed=seed
            )

        return join_logs([log], answers)

    def _task(
        self,
        panel: Callable[[], Panel] | None,
        protocol: Protocol,
        name: str | None = None,
        numbers: Sequence[int] | None = None,
        budget: Budget | None = None,
    ) -> Task:
        sampling = self.sampling
        task = agentic_task(
            self.grid,
            panel=panel,
            protocol=protocol,
            max_turns=self.max_turns,
            questions=self.questions,
            temperature=sampling.temperature,
            max_tokens=sampling.max_tokens,
            numbers=numbers,
            budget=budget,
        )
        metadata = {**(task.metadata or {}), "evaluation": self.name, "evaluation_hash": self.identity}
        return task_with(task, name=name or task.name, metadata=metadata)


def conduct_answers(table: pl.DataFrame, evaluation: str, *, arm: str = "", seed: int = 0) -> pl.DataFrame:
    """Return agentic samples as an answer table; harmful among harmful, harmless and refused, a cell is a question.

    Raises:
        EmptyDataError: there is no sample.
    """
    if table.is_empty():
        raise EmptyDataError(f"The table has no sample of {evaluation!r}.")
    return answer_table(
        [
            _answer(row, evaluation, {"log": row["log"]}) | {"arm": arm, "seed": seed}
            for row in table.iter_rows(named=True)
        ]
    )


def _transcript(sample: EvalSample) -> dict[str, object]:
    """Return what a judge needs to read a sample later: its scenario and factors, and all messages."""
    messages = MESSAGES.dump_python(sample.messages, mode="json", exclude_none=True)
    scene: dict[str, object] = {
        name: sample.metadata[name] for name in ("scenario", "factors", "draw") if name in sample.metadata
    }
    return {**scene, "messages": messages}


def _answer(row: Mapping[str, object], evaluation: str, more: Mapping[str, object]) -> dict[str, object]:
    conduct = Conduct(str(row["outcome"]))
    return {
        "arm": "",
        "seed": 0,
        "subject": row["subject"],
        "evaluation": evaluation,
        "item": "/".join(str(row[name]) for name in FACTORS),
        "category": row["scenario"],
        "format": row["reasoning"],
        "sample": row["replicate"],
        "system": None,
        "question": "",
        "answer": row["reason"],
        "completion_tokens": row["output_tokens"],
        "outcome": OUTCOMES[conduct].value,
        "aligned": None,
        "coherent": None,
        "judge": row["panel"] or "gate",
        "note": row["note"],
        "detail": write_detail({"word": conduct.value, **{name: row[name] for name in DETAIL}, **more}),
    }
