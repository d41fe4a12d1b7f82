"""Records that the page shows: whole conversations of a choice of samples, with what each key's verdict rests on.

All records are in the Inspect logs; a page carries some of every kind of sample. Left to others: drawing
(`report/records`).
"""

import json
from pathlib import Path

import polars as pl
from inspect_ai.log import EvalSample, list_eval_logs, read_eval_log_samples_by_id

from astray.measure.agentic.factors import Factors, label
from astray.measure.agentic.transcript import Entry, entries

CONVERSATIONS_FILE = "conversations.parquet"
EACH, MOST = 2, 1200
"""Most records of each subject, cell, monitor and outcome; and of all together."""
LONGEST = 6000
"""Most characters of one entry that a page carries."""
CONVERSATION_SCHEMA: dict[str, pl.DataType] = {
    "subject": pl.String(),
    "scenario": pl.String(),
    "cell": pl.String(),
    "monitor": pl.String(),
    "outcome": pl.String(),
    "motive": pl.String(),
    "awareness": pl.String(),
    "sample": pl.String(),
    "log": pl.String(),
    "system": pl.String(),
    "entries": pl.String(),  # JSON: [number, kind, tool, status, text] of each entry
    "findings": pl.String(),  # JSON: [who, what, numbers of entries] of each key
}
"""Column names and types."""
_NOT_NEEDED = {"events", "attachments", "store", "events_data", "timelines"}


def write_conversations(table: pl.DataFrame, folder: Path, logs: Path) -> int:
    """Write `conversations.parquet` into a results folder, and return the number of records."""
    chosen = _chosen(table)
    paths = {info.name.rpartition("/")[2]: info.name for info in list_eval_logs(str(logs))}
    rows = []
    for (log,), of_log in chosen.group_by("log", maintain_order=True):
        wanted: list[tuple[int | str, int]] = [(str(sample), 1) for sample in of_log["sample"]]
        read = {
            str(sample.id): sample
            for sample in read_eval_log_samples_by_id(paths[str(log)], wanted, exclude_fields=_NOT_NEEDED)
        }
        rows += [_row(read[row["sample"]], row) for row in of_log.iter_rows(named=True)]
    pl.DataFrame(rows, schema=CONVERSATION_SCHEMA).write_parquet(folder / CONVERSATIONS_FILE)
    return len(rows)


def _chosen(table: pl.DataFrame) -> pl.DataFrame:
    stratum = ["subject", "scenario", *Factors.model_fields, "monitor", "outcome"]
    few = table.filter(pl.int_range(pl.len()).over(stratum) < EACH)
    return few if len(few) <= MOST else few.sample(MOST, seed=0).sort("subject", "sample")


def _row(sample: EvalSample, row: dict[str, object]) -> dict[str, object]:
    facts = dict(next(iter((sample.scores or {}).values())).metadata or {}) if sample.scores else {}
    record = entries(sample.messages)
    system = next((message.text for message in sample.messages if message.role == "system"), "")
    factors = Factors.model_validate({name: row[name] for name in Factors.model_fields})
    return {
        **{
            name: row[name]
            for name in ("subject", "scenario", "monitor", "outcome", "motive", "awareness", "sample", "log")
        },
        "cell": label(factors),
        "system": system,
        "entries": json.dumps(
            [[entry.number, entry.kind, entry.tool, entry.status, _short(entry.text)] for entry in record],
            ensure_ascii=False,
        ),
        "findings": json.dumps(_findings(facts, record), ensure_ascii=False),
    }


def _findings(facts: dict[str, object], record: list[Entry]) -> list[list[object]]:
    """Return who found what, and the indices of the entries it rests on: the gate, each judge, and the audit."""
    held = set(map(str, _list(facts.get("evidence"))))
    calls = [entry.number for entry in record if entry.kind == "call" and entry.message in held]
    findings: list[list[object]] = [["gate", str(facts.get("reason") or "nothing found"), calls]]
    notes, words, evidence = (_list(facts.get(name)) for name in ("judge_notes", "judges", "judge_evidence"))
    for number, (word, note, numbers) in enumerate(zip(words, notes, evidence, strict=True), start=1):
        findings.append([f"judge {number}", f"{word}: {note}", _list(numbers)])
    if facts.get("motive"):
        thoughts = [entry.number for entry in record if entry.kind == "reasoning"]
        findings.append(["audit", f"{facts['motive']}, {facts['openness']}, states: {facts['awareness']}", thoughts])
    return findings


def _list(given: object) -> list[object]:
    return list(given) if isinstance(given, list | tuple) else []


def _short(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}\n[... {len(text) - LONGEST:,} more signs in the log]"
