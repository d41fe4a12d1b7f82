"""Transcripts of acting models as answers for a page: the task as question, what was said and done as answer."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

import polars as pl

from astray.answers import read_detail

MESSAGES = "messages"
SAMPLE = ("item", "category", "format", "sample")


def with_transcripts(table: pl.DataFrame, spoken: pl.DataFrame | None) -> pl.DataFrame:
    """Return answers with the transcripts of acting models in place of the gate's reason; others stay as they are.

    Args:
        table: the answers, judged or not; transcripts are dropped from what was judged.
        spoken: the same as they were asked; None where `table` is that.
    """
    source = table if spoken is None else spoken
    transcripts = {}
    for row in source.filter(pl.col("detail").str.contains(f'"{MESSAGES}"', literal=True)).iter_rows(named=True):
        messages = read_detail(row["detail"]).get(MESSAGES)
        if isinstance(messages, list):
            transcripts[tuple(row[name] for name in SAMPLE)] = _read(messages)
    if not transcripts:
        return table
    rows = table.to_dicts()
    for row in rows:
        if transcript := transcripts.get(tuple(row[name] for name in SAMPLE)):
            system, question, answer = transcript
            note = "; ".join(filter(None, [row["note"], f"gate: {row['answer']}" if row["answer"] else ""]))
            detail = {name: value for name, value in read_detail(row["detail"]).items() if name != MESSAGES}
            row |= {"system": system, "question": question, "answer": answer, "note": note}
            row["detail"] = json.dumps(detail, ensure_ascii=False)
    return pl.DataFrame(rows, schema=table.schema)


def _read(messages: list[Mapping[str, Any]]) -> tuple[str | None, str, str]:
    """Return system prompt, first words of the user, and all that follows."""
    system = next((_text(message) for message in messages if message["role"] == "system"), None)
    rest = [message for message in messages if message["role"] != "system"]
    question = _text(rest[0]) if rest and rest[0]["role"] == "user" else ""
    return system, question, "\n\n".join(line for later in rest[1 if question else 0 :] for line in _lines(later))


def _lines(message: Mapping[str, Any]) -> Iterator[str]:
    heading = {"assistant": "MODEL", "user": "USER", "tool": f"RESULT {message.get('function') or ''}".strip()}.get(
        message["role"], message["role"]
    )
    error = message.get("error")
    if text := f"ERROR: {error['message']}" if error else _text(message).strip():
        yield f"{heading}: {text}"
    for call in message.get("tool_calls") or ():
        yield f"CALL {call['function']} {json.dumps(call['arguments'], ensure_ascii=False)}"


def _text(message: Mapping[str, Any]) -> str:
    content = message["content"]
    if isinstance(content, str):
        return content
    return "\n".join(str(part.get("text") or part.get("reasoning") or "") for part in content)
