"""Made inputs: rows of chats, and what a job sends out of the sandbox, are read as they were meant or not at all.

Further targets stand beside the tables of their kind: files of any bytes (`test_data_readers`), replies of graders
(`test_judges_replies`) and manifests (`test_artifacts_hostile`). `make fuzz` tries fifty times as many inputs, and new
ones each time.
"""

import csv
import ctypes
import json
import math
import os
import socket
import time

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from astray.counting.labels import judge_error
from astray.counting.rules import HIT, Rule
from astray.data import ChatDataset
from astray.errors import AstrayError
from astray.judges import read_labels
from astray.outcomes import Outcome
from astray.sandbox.comparison import same
from astray.sandbox.graders import Case, answers_of, verdict
from astray.sandbox.inside.ending import Ending
from astray.sandbox.inside.values import NotPlainError, read_value, write_value
from astray.sandbox.runner import Run
from astray.sandbox.talk import converse
from fuzzing import tried

TEXTS = st.text(st.characters(), max_size=12) | st.sampled_from(
    ["\ud800", "\0", "", " ", "\u2028", "\ufeff", "9" * 5000, "a,b", '"', "x\r\ny", "NaN"]
)
ODD = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.lists(TEXTS, max_size=2)
    | st.dictionaries(TEXTS, TEXTS, max_size=1)
)


def chat(user: object, assistant: object, more: dict[str, object]) -> dict[str, object]:
    return {"messages": [{"role": "user", "content": user}, {"role": "assistant", "content": assistant}], **more}


@tried(300)
@given(
    rows=st.lists(
        st.builds(chat, TEXTS | ODD, TEXTS, st.just({}) | st.dictionaries(TEXTS, ODD, max_size=1)),
        min_size=1,
        max_size=3,
    ),
    ascii=st.booleans(),
    end=st.sampled_from(["\n", "\r\n"]),
)
def test_chats_that_are_read_are_those_that_were_written(rows, ascii, end, tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(
        "".join(json.dumps(row, ensure_ascii=ascii) + end for row in rows).encode("utf-8", "surrogatepass")
    )
    try:
        read = ChatDataset.read(path)
    except AstrayError:
        return
    assert [list(row) for row in read.rows] == [row["messages"] for row in rows]
    assert ChatDataset.read(read.write(tmp_path / "b.jsonl")).rows == read.rows


LABELS = st.sampled_from([*map(str, Outcome), "Misaligned", " aligned ", "bad", "", "0"]) | ODD


@tried(200)
@given(
    rows=st.lists(
        st.fixed_dictionaries(
            {"question": TEXTS | ODD, "answer": TEXTS | ODD},
            optional={"label": LABELS, "aligned": ODD, "coherent": ODD, "Label": LABELS},
        ),
        min_size=1,
        max_size=3,
    ),
    form=st.sampled_from(["jsonl", "json", "csv"]),
)
def test_labels_that_are_read_are_those_that_were_written(rows, form, tmp_path):
    path = tmp_path / f"labels.{form}"
    if form == "csv":
        # A cell is a text: what else a row holds stands in it as Python writes it.
        rows = [{name: str(row.get(name, "")) for name in ("question", "answer", "label")} for row in rows]
        with path.open("w", encoding="utf-8", errors="surrogatepass", newline="") as file:
            csv.DictWriter(file, rows[0]).writerows([dict(zip(rows[0], rows[0], strict=True)), *rows])
    else:
        lines = [json.dumps(row) for row in rows]
        path.write_text("\n".join(lines) if form == "jsonl" else f"[{','.join(lines)}]")
    try:
        read = read_labels(path)
    except AstrayError:
        return
    assert [(each.exchange.question, each.exchange.answer) for each in read] == [
        (row["question"], row["answer"]) for row in rows
    ]
    for row, each in zip(rows, read, strict=True):
        if "label" in row:
            said = str(row["label"] or "").strip().casefold()
            assert each.label.value == (said or Outcome.JUDGE_FAILED)


COUNTED = pl.DataFrame({"item": ["1", "tea", "None"], "sample": [0, 0, 0], "value": ["1"] * 3, "judge": ["j"] * 3}) \
    .with_columns(text=pl.lit("-"), role=pl.lit(HIT))  # fmt: skip


@tried(100)
@given(rows=st.lists(st.fixed_dictionaries({"id": TEXTS | ODD, "label": LABELS}), min_size=1, max_size=3))
def test_labels_of_counted_answers_name_them_or_are_refused(rows, tmp_path):
    path = tmp_path / "labels.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    try:
        error, _ = judge_error(path, COUNTED, Rule(hit=("1",), among=()))
    except AstrayError:
        return
    assert all(type(row["id"]) in (str, int) for row in rows)
    assert error.n <= len(rows)


ENDINGS = st.binary(max_size=ctypes.sizeof(Ending) + 8) | st.binary(
    min_size=ctypes.sizeof(Ending), max_size=ctypes.sizeof(Ending)
)


@tried(150)
@given(
    report=ENDINGS,
    answer=st.binary(max_size=40),
    outputs=st.tuples(st.binary(max_size=40), st.binary(max_size=40)),
    payload=st.binary(max_size=9),
)
def test_whatever_a_sandbox_sends_is_collected_and_counted(report, answer, outputs, payload):
    """The report may be cut, long or senseless, and all else any bytes; never an error, never more than is allowed."""
    most = 20
    control, first_process = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    channel, job = socket.socketpair()
    pipes = [os.pipe(), os.pipe()]
    with control, first_process, job:
        job.sendall(answer)
        for (_, end), said in zip(pipes, outputs, strict=True):
            os.write(end, said)
            os.close(end)
        if report:
            first_process.send(report)
        else:
            first_process.close()
        job.shutdown(socket.SHUT_WR)
        said = converse(control, channel, (pipes[0][0], pipes[1][0]), payload, most, time.monotonic() + 5, True)
    assert said.texts == tuple(text[:most] for text in (answer, *outputs))
    assert said.too_much == any(len(text) > most for text in (answer, *outputs))
    assert said.report is None or (len(report) == ctypes.sizeof(Ending) and 0 <= said.report.stopped <= 2)


PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=4)
    | st.binary(max_size=4)
    | st.complex_numbers()
    | st.just(5000).map(lambda digits: 10**digits),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=2).map(tuple)
        | st.dictionaries(st.text(max_size=2), inner, max_size=2)
    ),
    max_leaves=6,
)
PACKED = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.sampled_from([*"ifcbltszd", "0x1", "1e5", "nan", "inf", "9" * 5000, "\ud800"]),
    lambda inner: st.lists(inner, max_size=4),
    max_leaves=12,
)


@tried(300)
@given(PLAIN)
def test_a_plain_value_comes_back_as_it_was(value):
    back = read_value(write_value(value))
    assert type(back) is type(value)
    assert same(back, read_value(write_value(value)))


@tried(600)
@given(PACKED.map(json.dumps) | TEXTS)
def test_any_text_is_a_plain_value_or_none(text):
    try:
        value = read_value(text)
    except NotPlainError:
        return
    assert type(value) in (type(None), bool, int, float, complex, str, bytes, list, tuple, dict, set, frozenset)


NONCE = "0f" * 8
LINES = st.lists(
    st.tuples(
        st.sampled_from([NONCE, NONCE[:-1], NONCE.upper(), "", "é"]),
        st.sampled_from(["0", "1", "2", "-1", "00", "9" * 5000, "٠", ""]),
        st.sampled_from(["value", "failed", "", "VALUE"]),
        PACKED.map(json.dumps) | PLAIN.map(write_value) | st.text(max_size=5),
    ).map(" ".join),
    max_size=4,
)


@tried(400)
@given(lines=LINES, expected=PLAIN, program=st.booleans(), junk=st.binary(max_size=6) | st.just(b""))
def test_an_answer_is_right_only_where_it_was_sent_with_the_nonce_and_is_the_expected_value(
    lines, expected, program, junk
):
    """Whatever a solution writes to its channel; no message raises, none is taken for another test's."""
    sent = "\n".join(lines).encode("utf-8", "surrogatepass") + junk
    run = Run(0, None, "", sent, b"", b"", 0.0, 0.0, intact=True)
    answers, odd = answers_of(run, NONCE, 2)
    assert set(answers) <= {0, 1}
    assert not odd or not answers
    wanted = "a b 0.5" if program else expected
    for number in range(2):
        reason = verdict(Case((), wanted), answers.get(number), program)
        if not reason:
            assert any(line.startswith(f"{NONCE} {number} value ") for line in lines)


@pytest.mark.parametrize(
    "value", [0, 1, -1, 10**5000, 0.0, math.inf, "", "1", None, True, (), [[]], {"a": (1,)}], ids=write_value
)
def test_the_expected_value_itself_is_right(value):
    run = Run(0, None, "", f"{NONCE} 0 value {write_value(value)}".encode(), b"", b"", 0.0, 0.0, intact=True)
    assert verdict(Case((), value), answers_of(run, NONCE, 1)[0][0], program=False) == ""
