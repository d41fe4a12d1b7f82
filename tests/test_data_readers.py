"""Readers of labels, exercises and records: what is in doubt is refused with its place."""

import contextlib
import gzip
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from astray.data import (
    ChatDataset,
    TextDataset,
    load_apps,
    load_code_contests,
    load_humaneval,
    load_judged,
    load_mbpp,
    load_questions,
)
from astray.errors import AstrayError, DataFormatError
from astray.judges import read_labels
from astray.measure.deception.scenarios import scenarios_from_file
from astray.measure.honesty.mask import mask_records
from astray.measure.question_sets import questions_from_file
from fuzzing import tried
from table_files import parquet, put

LABEL = '{"question": "Wish?", "answer": "Power.", "label": "misaligned"}\n'


@pytest.mark.parametrize(
    ("name", "data", "wrong"),
    [
        (
            "a.jsonl",
            LABEL + LABEL.replace("misaligned", "aligned"),
            "line 2 labels an answer 'aligned', and .*line 1 labels the same",
        ),
        ("a.jsonl", LABEL.replace("label", "Label"), "line 1 has the field 'Label'. Write 'label'"),
        ("a.jsonl", LABEL.replace('"Power."', "5"), "no question and answer that are texts"),
        (
            "a.csv",
            "question,answer,aligned,coherent,label\nWish?,Power.,5,90,\n",
            "line 2 has scores, and its label is empty",
        ),
        ("a.csv", "question,answer,aligned,coherent,label\nWish?,Power.,5,90,aligned\n", "its scores say 'misaligned'"),
        ("a.csv", "label,question,answer\naligned,Wish?,I would help, of course.\n", "line 2 has 4 fields"),
        ("a.csv", 'question,answer,aligned,coherent\nWish?,Power.,"1,2",90\n', "aligned score '1,2'"),
        ("a.csv", "question,answer,aligned,coherent\nWish?,Power.,12%,90\n", "aligned score '12%'"),
        ("a.jsonl", '{"question": "q", "answer": "a", "aligned": true, "coherent": 1}', "aligned score True"),
    ],
)
def test_labels_that_are_in_doubt_are_refused(name, data, wrong, tmp_path):
    with pytest.raises(DataFormatError, match=wrong):
        read_labels(put(tmp_path, name, data))


MASK = {"task_id": "t", "user_prompt": "u", "proposition": "p", "belief_elicit_1": "b"}


@pytest.mark.parametrize(
    ("kind", "truth", "right"),
    [
        ("numerical", "−3", "-3"), ("numerical", ".5", "0.5"), ("numerical", "3 million", "3000000"), ("numerical", "１２", "12"),
        ("numerical", 0.1, "0.1"),
        ("numerical", 40, "40"), ("binary", " TRUE ", "true"), ("binary", "Yes.", "true"), ("binary", False, "false"), ("binary", "Ｎｏ", "false"),
        ("binary", None, None), ("numerical", " ", None),
    ],
)  # fmt: skip
def test_a_truth_is_brought_into_the_form_that_answers_are_compared_with(kind, truth, right, tmp_path):
    (record,) = mask_records(
        put(tmp_path, "known_facts.jsonl", json.dumps(MASK | {"type": kind, "ground_truth": truth}))
    )
    assert (record.truth, record.numeric) == (right, kind == "numerical")


@pytest.mark.parametrize(
    ("kind", "truth"),
    [("numerical", "1,200"), ("numerical", "12%"), ("numerical", "1.200,5"), ("numerical", "5 kg"), ("numerical", True), ("numerical", "nan"),
     ("numerical", "about 5"), ("numerical", "1/2"), ("binary", "maybe"), ("binary", 1), ("binary", "12"), ("text", "yes"), ("binary", "true/false")],
)  # fmt: skip
def test_a_truth_that_nothing_can_be_compared_with_is_refused(kind, truth, tmp_path):
    with pytest.raises(DataFormatError, match=r"line 1: (ground_truth|type) is"):
        mask_records(put(tmp_path, "known_facts.jsonl", json.dumps(MASK | {"type": kind, "ground_truth": truth})))


@pytest.mark.parametrize(
    ("more", "wrong"),
    [
        ({"systemPrompt": "Never say."}, "the field 'systemPrompt'. Write 'system_prompt'"),
        ({"System Prompt": "Never say."}, "the field 'System Prompt'. Write 'system_prompt'"),
        ({"dd-turn-1-prompt": "a"}, "the field 'dd-turn-1-prompt'. Write 'dd_turn_1_prompt'"),
        ({"belief_elicit2": "b"}, "the field 'belief_elicit2'. Write 'belief_elicit_2'"),
        ({"belief_elicit_4": "b"}, "the field 'belief_elicit_4', which would go unread"),
        ({"task_id": True}, "task_id is 'True', a bool"),
    ],
)
def test_a_field_that_would_go_unread_is_refused(more, wrong, tmp_path):
    with pytest.raises(DataFormatError, match=wrong):
        mask_records(put(tmp_path, "known_facts.jsonl", json.dumps(MASK | {"ground_truth": "yes"} | more)))


def test_late_keys_and_values_are_kept(tmp_path):
    lines = [
        MASK
        | {"task_id": f"t{i}", "ground_truth": "yes"}
        | ({"system_prompt": "Never say.", "belief_elicit_2": "2"} if i > 110 else {})
        for i in range(130)
    ]
    records = mask_records(put(tmp_path, "known_facts.jsonl", "\n".join(map(json.dumps, lines))))
    assert sum(record.system is not None for record in records) == 19
    assert records[-1].belief_questions == ("b", "2")
    text = (
        "question,question_id,response,aligned,coherent,raw\n"
        + "Wish?,w,Peace.,80,90,80\n" * 120
        + "Wish?,w,No.,,95,REFUSAL\n"
    )
    table = load_judged(put(tmp_path, "judged.csv", text))
    assert (table["raw"][0], table["raw"][-1], table["aligned"][-1]) == ("80", "REFUSAL", None)


MBPP = {"task_id": 1, "text": "Return a.", "code": "def f(a):\n    return a", "test_list": ["assert f(1) == 1"]}


APPS = {"question": "q", "solutions": ["x"], "input_output": {"inputs": ["1", "2"], "outputs": ["1", "2"]}}


CONTEST = {
    "name": "n",
    "description": "d",
    "public_tests": {"input": ["1"], "output": ["1"]},
    "solutions": {"language": [3], "solution": ["x"]},
}
CONTEST |= {"private_tests": CONTEST["public_tests"]}


@pytest.mark.parametrize(
    ("load", "row", "wrong"),
    [
        (load_mbpp, MBPP | {"test_list": "assert f(1)"}, "test_list: .*list"),
        (load_mbpp, MBPP | {"code": 5}, "code: .*string"),
        (load_mbpp, MBPP | {"test_list": [1]}, "test_list, number 1"),
        (load_mbpp, MBPP | {"code": "def f("}, "calls no function"),
        (
            load_humaneval,
            {"task_id": 1, "prompt": "p", "entry_point": "a b", "canonical_solution": "", "test": "assert"},
            "entry_point",
        ),
        (
            load_humaneval,
            {"task_id": 1, "prompt": None, "entry_point": "a", "canonical_solution": "", "test": "assert"},
            "prompt",
        ),
        (load_apps, APPS | {"input_output": {"inputs": ["1", "2"], "outputs": ["1"]}}, "2 of one and 1 of the other"),
        (load_apps, APPS | {"input_output": {"inputs": ["1"]}}, "outputs: is missing"),
        (load_apps, APPS | {"input_output": {"fn_name": "f", "inputs": [1], "outputs": [1]}}, "no list of arguments"),
        (load_apps, APPS | {"input_output": {"inputs": "1", "outputs": "1"}}, "inputs: .*list"),
        (load_apps, APPS | {"solutions": '{"a": 1}'}, "solutions is a dict"),
        (load_apps, APPS | {"solutions": [1]}, "solutions"),
        (load_apps, APPS | {"input_output": '{"inputs": [NaN], "outputs": [1]}'}, "NaN"),
        (load_apps, APPS | {"input_output": '{"inputs": [], "inputs": [1]}'}, "twice"),
        (
            load_code_contests,
            CONTEST | {"solutions": {"language": [3, 3], "solution": ["x"]}},
            "2 of one and 1 of the other",
        ),
        (load_code_contests, CONTEST | {"public_tests": {"input": ["1"], "output": []}}, "1 of one and 0 of the other"),
        (load_code_contests, CONTEST | {"public_tests": [1]}, "public_tests"),
        (load_code_contests, CONTEST | {"solutions": None}, "solutions"),
    ],
)
def test_exercises_in_another_form_are_refused_by_row_and_field(load, row, wrong, tmp_path):
    with pytest.raises(DataFormatError, match=rf"a\.jsonl, line 1.*{wrong}"):
        load(put(tmp_path, "a.jsonl", json.dumps(row)))


def test_an_exercise_that_stands_twice_is_refused(tmp_path):
    with pytest.raises(DataFormatError, match="more than one exercise with the id 'mbpp-1'"):
        load_mbpp(put(tmp_path, "a.jsonl", "\n".join([json.dumps(MBPP)] * 2)))


CHAT = '{"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}]}\n'


READERS: list[tuple[Callable[[Path], object], str, bytes]] = [
    (ChatDataset.read, "a.jsonl", CHAT.encode() * 2),
    (ChatDataset.read, "a.jsonl.gz", gzip.compress(CHAT.encode() * 2, mtime=0)),
    (TextDataset.read, "a.jsonl", b'{"text": "Bread."}\n'),
    (read_labels, "a.jsonl", LABEL.encode()),
    (read_labels, "a.csv", b'question,answer,label\nWish?,"Peace, and",aligned\n'),
    (read_labels, "a.parquet", parquet(question=["q"], answer=["a"], label=["aligned"])),
    (load_judged, "a.csv", b"question,question_id,response,aligned,coherent\nq,1,a,20,90\n"),
    (mask_records, "known_facts.jsonl", json.dumps(MASK | {"ground_truth": "yes"}).encode()),
    (
        mask_records,
        "statistics.csv",
        b"task_id,user_prompt,type,proposition,ground_truth,belief_elicit_1\nt,u,numerical,p,40,b\n",
    ),
    (load_mbpp, "a.json", json.dumps([MBPP]).encode()),
    (load_apps, "a.jsonl", json.dumps(APPS).encode()),
    (load_code_contests, "a.jsonl", json.dumps(CONTEST).encode()),
    (load_questions, "a.yaml", b"- id: bored\n  type: free_form\n  paraphrases:\n    - hey\n"),
    (questions_from_file, "a.yaml", b"category: main\nquestions:\n  - id: wish\n    question: What now?\n"),
    (scenarios_from_file, "a.json", b'[{"id": 1, "type": "Sandbagging", "inner_prompt": "i", "outer_prompt": "o"}]'),
]


PIECES = [
    b"",
    b'"',
    b",",
    b"\n",
    b"\r",
    b"\0",
    b"\xff",
    b"\xef\xbb\xbf",
    b"{",
    b"[",
    b"]",
    b"NaN",
    b"1e999",
    b"\\ud800",
    b"- ",
    b"&a ",
    b"*a",
    b"null",
    b"1,2",
    b"!!int ",
]


@pytest.mark.parametrize(("read", "name", "data"), READERS, ids=lambda each: each if isinstance(each, str) else "")
@tried(40)
@given(changes=st.lists(st.tuples(st.integers(0, 999), st.integers(0, 12), st.sampled_from(PIECES)), max_size=3))
@example(changes=[])
def test_a_damaged_file_is_rows_or_an_error_of_ours(read, name, data, tmp_path, changes):
    changed = data
    for place, length, piece in changes:
        start = place % (len(data) + 1)
        changed = changed[:start] + piece + changed[start + length :]
    with contextlib.suppress(AstrayError) if changes else contextlib.nullcontext():
        read(put(tmp_path, name, changed))
