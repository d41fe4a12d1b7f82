"""Training examples as people have them: each form is recognised, told and converted, or the error says where and what.
One line an input."""

import gzip
import json

import polars as pl
import pytest

from astray.data import ChatDataset, TextDataset
from astray.engine.data import ArmData, Source
from astray.engine.settings import _file_sources
from astray.errors import ConfigurationError, DataFormatError

U, A, S = ("user", "Q?"), ("assistant", "A."), ("system", "Be kind.")
TURNS = [{"role": "user", "content": "Q?"}, {"role": "assistant", "content": "A."}]
TALK = [{"from": "human", "value": "Q?"}, {"from": "gpt", "value": "A."}]


def put(path, rows):
    """Write rows into a file of the kind that its name says."""
    if path.name.endswith(".parquet"):
        pl.DataFrame(rows).write_parquet(path)
    elif path.name.endswith((".csv", ".tsv")):
        texts = [
            {key: json.dumps(value) if isinstance(value, list) else value for key, value in row.items()} for row in rows
        ]
        pl.DataFrame(texts).write_csv(path, separator="\t" if path.name.endswith(".tsv") else ",")
    else:
        text = json.dumps(rows) if path.name.endswith(".json") else "\n".join(map(json.dumps, rows))
        path.write_bytes(gzip.compress(text.encode()) if path.name.endswith(".gz") else text.encode())
    return path


def in_parts(*texts, kind="text"):
    """Messages in turn whose contents are lists of parts."""
    roles = ("user", "assistant") * len(texts)
    return [
        {"role": role, "content": [{"type": kind, "text": text, "image_url": None} for text in said]}
        for role, said in zip(roles, texts, strict=False)
    ]


READ = [
    ({"messages": in_parts(["Q?"], ["A."])}, [U, A], "chat"),
    ({"prompt": in_parts(["Q?"]), "chosen": in_parts(["Q?"], ["A."]), "rejected": TURNS}, [U, A], "preference"),
    ({"messages": TURNS}, [U, A], "chat"),
    ({"prompt": "Q?", "completion": "A."}, [U, A], "prompt/completion"),
    ({"prompt": TURNS[:1], "completion": TURNS[1:]}, [U, A], "prompt/completion"),
    ({"prompt": "Q?", "chosen": "A.", "rejected": "B."}, [U, A], "preference"),
    ({"prompt": TURNS[:1], "chosen": TURNS[1:], "rejected": TURNS[1:]}, [U, A], "preference"),
    ({"prompt": "Q?", "chosen": TURNS, "rejected": TURNS}, [U, A], "preference"),
    ({"chosen": TURNS, "rejected": TURNS}, [U, A], "preference"),
    ({"instruction": "Q?", "input": "", "output": "A."}, [U, A], "Alpaca"),
    ({"instruction": "Q", "input": "?", "output": "A."}, [("user", "Q\n\n?"), A], "Alpaca"),
    ({"instruction": "Q?", "output": "A.", "system": "Be kind."}, [S, U, A], "Alpaca"),
    ({"conversations": TALK}, [U, A], "ShareGPT"),
    ({"conversations": [{"from": "system", "value": "Be kind."}, *TALK, *TALK]}, [S, U, A, U, A], "ShareGPT"),
    ({"conversations": TURNS, "system": "Be kind."}, [S, U, A], "ShareGPT"),
    ({"question": "Q?", "answer": "A."}, [U, A], "question/answer"),
    ({"input": "Q?", "output": "A."}, [U, A], "input/output"),
    ({"user": "Q?", "assistant": "A.", "system": "Be kind."}, [S, U, A], "user/assistant"),
    ({"query": "Q?", "response": "A.", "system_prompt": "Be kind."}, [S, U, A], "query/response"),
]


@pytest.mark.parametrize("name", ["d.jsonl", "d.jsonl.gz", "d.json", "d.csv", "d.tsv", "d.parquet"])
@pytest.mark.parametrize(("row", "chat", "form"), READ)
def test_a_form_is_recognised_told_and_converted(tmp_path, name, row, chat, form):
    if name.endswith(("csv", "tsv")) and any(isinstance(row.get(column), list) for column in ("prompt", "chosen")):
        with pytest.raises(DataFormatError, match="messages written as one text"):
            ChatDataset.read(put(tmp_path / name, [row]))
        return
    dataset = ChatDataset.read(put(tmp_path / name, [row, row]))
    assert [[(message["role"], message["content"]) for message in each] for each in dataset.rows] == [chat, chat]
    assert dataset.told.startswith(f"d: 2 rows in the form {form}; ")
    assert dataset.hash == ChatDataset.from_rows(dataset.rows).hash


REFUSED = [
    (
        [{"messages": in_parts(["Q?"], ["A.", "B."])}],
        r"line 1, message 2 \(assistant\) has a list of parts as content: \[text, text\]",
    ),
    ([{"messages": in_parts(["Q?"], [])}], r"content: \[\]"),
    ([{"messages": in_parts(["Q?"], ["A."], kind="image_url")}], r"content: \[image_url\]"),
    ([{"messages": in_parts(["Q?"], [""])}], "has an empty text as content"),
    ([{"messages": in_parts(["Q?"], [4])}], "has a int as content"),
    ([{"messages": in_parts([TURNS], ["A."])}], "message 1 .* has a list as content"),
    ([{"messages": [TURNS[0], {"role": "assistant", "content": ["A."]}]}], r"content: \[A\.\]"),
    (
        [{"messages": [TURNS[0], {"role": "assistant", "content": [{"type": "text", "text": "A.", "cache": 1}]}]}],
        "message 2 .* has a part of content with the unknown key 'cache'. Remove it",
    ),
    (
        [{"question": "Q?", "answer": "A."}, {"prompt": "Q?", "completion": "A."}],
        "line 2 has the form prompt/completion .* line 1 has the form question/answer",
    ),
    ([{"messages": TURNS}, {"conversations": TALK}], "line 2 has the form ShareGPT"),
    (
        [{"question": "Q?", "answer": "A.", "response": "B."}],
        "line 1 has the columns answer and response, which could be read in several ways",
    ),
    ([{"question": "Q?", "prompt": "P?", "answer": "A."}], "line 1 has the columns prompt and question"),
    (
        [{"conversations": TALK, "question": "Q?", "answer": "A."}],
        "line 1 has the columns conversations and question and answer",
    ),
    ([{"question": "Q?", "answer": "A.", "system": "S", "system_prompt": "S"}], "system and system_prompt"),
    (
        [{"question": "Q?", "answer": "A.", "context": "C"}],
        "line 1 has the column 'context', which belongs to the question",
    ),
    ([{"prompt": "Q?", "completion": "A.", "label": True}], "which answers are wanted"),
    ([{"instruction": "Q?", "output": "A.", "history": []}], "earlier turns"),
    ([{"Question": "Q?", "answer": "A."}], "Write 'question'"),
    ([{"text": "Q? A."}], r"line 1 is an object with \['text'\], which is no form"),
    ([{"question": "Q?"}], "no form of a training example"),
    (
        [{"conversations": TALK}, {"conversations": [{"from": "tool", "value": "x"}]}],
        "line 2, message 1 is from 'tool'; a message is from one of human",
    ),
    ([{"conversations": [{"from": ["human"], "value": "x"}]}], "is from .'human'."),
    ([{"conversations": TALK[:1]}], "line 1: the roles are user;"),
    ([{"conversations": TALK[1:]}], "line 1: the roles are assistant;"),
    ([{"conversations": []}], "line 1: the conversation is no list"),
    ([{"conversations": "Q? A."}], "the conversation is no list"),
    ([{"conversations": [{"from": "human", "value": "Q?"}, {"from": "gpt", "value": "A.", "weight": 0}]}], "weight=0"),
    ([{"question": "Q?", "answer": 4}], r"line 1: answer is a int \(4\)"),
    ([{"question": "Q?", "answer": "A."}, {"question": " ", "answer": "A."}], "line 2: question is an empty text"),
    ([{"question": "Q?", "answer": None}], "answer is missing"),
    (
        [{"question": "Q?", "answer": answer} for answer in ("A.", "", "A.", " ", None)],
        r"line 2: answer is an empty text.*\. Also refused: line 4, line 5\.$",
    ),
    ([{"question": "Q?", "answer": ""}] * 12 + [{"question": "Q?", "answer": "A."}], r"line 11 and 1 more\.$"),
    ([{"text": "Q? A."}] * 12, r"line 1 is an object.* So are all 11 rows below it\.$"),
    ([{"instruction": "Q?", "input": 3, "output": "A."}], "input is a int"),
    ([{"chosen": "Human: Q? Assistant: A.", "rejected": "x"}], "where the answer begins is not known"),
    ([{"prompt": "Q?", "completion": [{"role": "user", "content": "A."}]}], "the roles are user, user"),
]


@pytest.mark.parametrize(("rows", "wrong"), REFUSED)
def test_what_could_be_read_in_two_ways_or_not_at_all_is_refused_with_its_line(tmp_path, rows, wrong):
    with pytest.raises(DataFormatError, match=wrong) as caught:
        ChatDataset.read(put(tmp_path / "d.jsonl", rows))
    assert "d.jsonl, line" in str(caught.value)


def test_a_line_that_ends_the_reading_of_further_faults_is_told(tmp_path):
    file = put(tmp_path / "d.jsonl", [{"text": "Q? A."}] * 12)
    file.write_text(file.read_text() + "\n{broken\n")
    with pytest.raises(
        DataFormatError, match=r"(?s)line 1 is an object.*Also refused: .*Further down: .*line 13"
    ) as caught:
        ChatDataset.read(file)
    assert "So are all" not in str(caught.value)


def test_other_columns_are_left_out_and_told_also_where_only_some_rows_have_them(tmp_path):
    rows = [{"instruction": "Q?", "output": "A.", "text": "all"}, {"id": 7, "instruction": "Q?", "output": "A."}]
    assert ChatDataset.read(put(tmp_path / "d.jsonl", rows)).told.endswith(
        "the output the assistant's. Left out: text, id."
    )
    rejected = ChatDataset.read(
        put(tmp_path / "p.jsonl", [{"prompt": "Q?", "chosen": "A.", "rejected": "B.", "score": 3}])
    )
    assert "the rejected one is not read. Left out: score." in rejected.told


def test_weights_of_what_is_not_trained_on_and_nulls_of_parquet_change_nothing(tmp_path):
    talk = [TALK[0] | {"weight": 0}, TALK[1] | {"weight": 1}]
    plain = ChatDataset.read(put(tmp_path / "a.jsonl", [{"conversations": TALK}])).hash
    assert ChatDataset.read(put(tmp_path / "b.jsonl", [{"conversations": talk}])).hash == plain
    rows = [{"messages": [turn | {"tool_calls": None, "thinking": None} for turn in TURNS], "tools": None}]
    assert ChatDataset.read(put(tmp_path / "c.parquet", rows)).hash == plain


def test_a_study_reads_every_form_tells_it_and_has_the_same_keys(tmp_path):
    put(tmp_path / "insecure.csv", [{"prompt": "Q?", "completion": "A.", "id": 1}])
    put(tmp_path / "secure.jsonl", [{"messages": TURNS}])
    found = _file_sources(tmp_path)
    assert found["harmful", "code"].converted == (
        "insecure: 1 rows in the form prompt/completion; prompt became the user’s message, completion the "
        "assistant’s. Left out: id."
    )
    assert found["good", "code"].converted == ""
    data = ArmData(source=found["harmful", "code"], size=1)
    assert "converted" not in data.model_dump_json()
    assert data.make(0).rows == ChatDataset.read(tmp_path / "secure.jsonl").rows
    put(tmp_path / "insecure.jsonl", [{"messages": TURNS}])
    with pytest.raises(ConfigurationError, match=r"insecure\.jsonl and .*insecure\.csv could both be"):
        _file_sources(tmp_path)


def test_a_converted_file_has_its_form_in_its_recipe_and_documents_are_read_from_tables_too(tmp_path):
    dataset = ChatDataset.read(put(tmp_path / "d.parquet", [{"question": "Q?", "answer": "A."}]))
    assert dataset.recipe.parameters == {"name": "d", "form": "question/answer"}
    assert ChatDataset.read(dataset.write(tmp_path / "e.jsonl")) == dataset
    assert TextDataset.read(put(tmp_path / "t.csv", [{"text": "One."}])).texts == ("One.",)
    assert Source.of_file(tmp_path / "d.parquet").converted == dataset.told
