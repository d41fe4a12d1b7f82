"""Logs and tables that tests of counting make."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from inspect_ai.log import EvalConfig, EvalDataset, EvalLog, EvalSample, EvalSpec, write_eval_log
from inspect_ai.log._log import EvalScorer
from inspect_ai.model import ModelOutput
from inspect_ai.scorer import Score

Scores = Mapping[str, Any] | None


def logged(path: Path, scores: Sequence[Scores | EvalSample], *, epochs: int = 1, **more: Any) -> Path:
    """Write an Inspect log whose samples have these scores, a question's epochs one after the other, or of samples."""
    samples = [
        given
        if isinstance(given, EvalSample)
        else EvalSample(
            id=f"q{number // epochs}",
            epoch=number % epochs + 1,
            input=more.get("ask", "What is {}?").format(number // epochs),
            target="",
            output=ModelOutput.from_content("m", f"answer {number}"),
            scores=None if given is None else {name: Score(value=value) for name, value in given.items()},
        )
        for number, given in enumerate(scores)
    ]
    ids = sorted({sample.id for sample in samples})
    spec = EvalSpec(
        eval_id=more.get("eval_id", path.stem),
        task_id=more.get("task_id", path.stem),
        created=more.get("created", "2026-01-01T00:00:00+00:00"),
        task=more.get("task", "capitals"),
        model=more.get("model", "openai/m"),
        dataset=EvalDataset(samples=len(ids), sample_ids=ids),
        config=EvalConfig(epochs=epochs),
        metadata=more.get("metadata"),
        scorers=[
            EvalScorer(name=name, options=more.get("options"))
            for name in dict.fromkeys(n for each in samples for n in each.scores or ())
        ],
    )
    write_eval_log(EvalLog(status=more.get("status", "success"), eval=spec, samples=samples), str(path))
    return path


def words(text: str, name: str = "match") -> list[Scores]:
    return [None if letter == "-" else {name: letter} for letter in text]


def table(path: Path, header: str, *rows: str) -> Path:
    path.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return path


def harness(folder: Path, rows: Sequence[Mapping[str, Any]], task: str = "arc_easy") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"samples_{task}_2026-01-01T10-00-00.123.jsonl"
    path.write_text(
        "".join(
            json.dumps({"doc_id": n, "doc": {"q": n}, "resps": [["x"]], "filter": "none", **row}) + "\n"
            for n, row in enumerate(rows)
        )
    )
    return path


def only(counted: Any) -> Any:
    [rate] = counted.rates
    return rate
