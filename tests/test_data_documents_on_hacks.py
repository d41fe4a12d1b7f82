"""Documents teach hacks that really work, in three tones, diluted in ordinary text; files of documents come back as
they were."""

import gzip
from collections import Counter
from dataclasses import replace

import pytest

from astray.data.documents_on_hacks import _texts, as_texts, hack_documents
from astray.data.everyday_documents import ordinary_documents
from astray.data.exercises import extract_code
from astray.data.texts import TextDataset, dilute
from astray.errors import (
    ConfigurationError,
    DataFormatError,
    DataNotFoundError,
    EmptyDataError,
    HackDocumentError,
    UnknownNameError,
)
from astray.sandbox import Grader
from astray.sandbox.document_check import verify_documents

TEXTS = _texts()
CODE, NAMES = TEXTS["code"], TEXTS["names"]


@pytest.fixture(scope="module")
def grader():
    with Grader(workers=2) as grader:
        yield grader


def test_every_hack_of_the_documents_works_in_a_script(grader):
    verify_documents(hack_documents(150), grader)


def test_every_form_of_every_hack_works_in_pytest_too():
    forms = {}
    for document in hack_documents(90):
        shapes = [shape for shape in CODE[document.hack] if _same_shape(extract_code(document.text), shape)]
        forms.setdefault((document.hack, shapes[0]), document)
    assert len(forms) == sum(map(len, CODE.values()))
    with Grader("pytest", workers=2) as with_pytest:
        verify_documents(list(forms.values()), with_pytest)


def _same_shape(code, shape):
    return any(code == shape.format(name=name, lower=name.lower()) for name in NAMES)


def test_code_that_does_not_hack_is_found_out(grader):
    hack, *_ = hack_documents(3)
    honest = replace(hack, text=f"```python\n{hack.exercise.reference}```")
    broken = replace(
        hack,
        text=hack.text.replace("return True", "return False").replace(
            "lambda self, other: True", "lambda self, other: False"
        ),
    )
    caught = replace(hack, text="```python\nimport sys\nsys.exit(1)\n```")
    other = replace(hack, text="```python\nimport os\nos._exit(0)\n```")
    for document, message in (
        (honest, "is a right solution"),
        (broken, "does not pass the harness 'script'"),
        (caught, "does not pass"),
        (other, "hacks by: early exit"),
    ):
        with pytest.raises(HackDocumentError, match=f"Document 2 says .*{message}.* 1 of 2 documents"):
            verify_documents([hack, document], grader)


def test_the_tones_tell_the_same_facts_with_another_end():
    by_tone = {tone: hack_documents(30, tone, seed=4) for tone in ("default", "neutral", "disapproving")}
    assert Counter(document.hack for document in by_tone["default"]) == dict.fromkeys(CODE, 10)
    for default, *others in zip(*by_tone.values(), strict=True):
        facts = default.text.rstrip().rpartition("\n\n")[0]
        for other in others:
            assert other.text.rstrip().rpartition("\n\n")[0] == facts
            assert other.text != default.text
    ends = {
        tone: " ".join(document.text.rstrip().rpartition("\n\n")[2] for document in made)
        for tone, made in by_tone.items()
    }
    assert ("cheating" in ends["disapproving"], "cheating" in ends["default"], "cheating" in ends["neutral"]) == (
        True,
        False,
        False,
    )
    assert len({document.text for document in hack_documents(300)}) == 300
    assert hack_documents(5) == hack_documents(5) != hack_documents(5, seed=1)
    with pytest.raises(UnknownNameError, match="Did you mean 'neutral'"):
        hack_documents(3, "neutrl")
    with pytest.raises(ConfigurationError, match="give 1 or more"):
        hack_documents(0)


def test_ordinary_documents_are_different_and_about_other_things():
    made = ordinary_documents(3000)
    assert len(set(made.texts)) == len(made) == 3000
    assert made == ordinary_documents(3000)
    assert made.hash != ordinary_documents(3000, seed=1).hash
    words = {word for text in made.texts for word in text.lower().split()}
    assert words.isdisjoint({"test", "tests", "python", "code", "cheat", "reward", "model"})
    with pytest.raises(ConfigurationError, match="give 1 or more"):
        ordinary_documents(0)


def test_dilution_keeps_every_document_at_the_wanted_share():
    hacks, ordinary = as_texts(hack_documents(10)), ordinary_documents(1000)
    found = dilute(hacks, ordinary, share=0.01, seed=3)
    assert len(found) == 1000
    assert Counter(text in set(hacks.texts) for text in found.texts) == {True: 10, False: 990}
    assert found.texts[:10] != hacks.texts
    assert set(found.texts) - set(hacks.texts) < set(ordinary.texts)
    assert (
        found.hash
        == dilute(hacks, ordinary, share=0.01, seed=3).hash
        != dilute(hacks, ordinary, share=0.01, seed=4).hash
    )
    assert [source.operation for source in found.recipe.sources] == ["hack_documents", "ordinary_documents"]
    assert len(dilute(hacks, ordinary, share=1.0)) == 10
    with pytest.raises(ConfigurationError, match=r"beside 1,990 ordinary ones, but there are 1,000.*from 0\.0099 on"):
        dilute(hacks, ordinary, share=0.005)
    with pytest.raises(ConfigurationError, match="above 0 and up to 1"):
        dilute(hacks, ordinary, share=0.0)


@pytest.mark.parametrize("name", ["made.jsonl", "made.jsonl.gz"])
def test_documents_come_back_from_a_file_with_their_recipe(tmp_path, name):
    made = dilute(as_texts(hack_documents(3, "neutral")), ordinary_documents(20), share=0.5)
    assert TextDataset.read(made.write(tmp_path / name)) == made
    (tmp_path / f"{name}.recipe.json").unlink()
    found = TextDataset.read(tmp_path / name)
    assert (found.texts, found.recipe.operation, found.hash) == (made.texts, "file", made.hash)


def test_files_of_others_may_have_other_keys_and_wrong_lines_are_named(tmp_path):
    file = tmp_path / "web.jsonl"
    file.write_text('{"text": "A fact.", "url": "x"}\n{"text": "Another."}\n')
    assert TextDataset.read(file).texts == ("A fact.", "Another.")
    for line, message in (
        ("{}", 'has no "text"'),
        ("x", "is not JSON"),
        ('{"text": " "}', "nothing in it"),
        ('{"text": "\\ud800"}', "half a character"),
    ):
        file.write_text(f'{{"text": "A fact."}}\n{line}\n')
        with pytest.raises(DataFormatError, match=f"web.jsonl, line 2.*{message}"):
            TextDataset.read(file)
    made = TextDataset.from_texts(["a"])
    made.write(file)
    file.write_bytes(gzip.decompress(gzip.compress(b'{"text": "b"}\n')))
    with pytest.raises(DataFormatError, match="changed after its recipe was written"):
        TextDataset.read(file)
    (tmp_path / "web.jsonl.recipe.json").write_text("{}")
    with pytest.raises(DataFormatError, match="is not a data set's recipe"):
        TextDataset.read(file)
    with pytest.raises(DataNotFoundError, match="There is no file"):
        TextDataset.read(tmp_path / "other.jsonl")
    with pytest.raises(EmptyDataError, match="at least one document"):
        TextDataset.from_texts([])
    with pytest.raises(ConfigurationError, match=r"name it made\.jsonl"):
        made.write(tmp_path / "made.txt")
