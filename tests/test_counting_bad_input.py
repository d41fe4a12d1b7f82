"""Counting refuses what cannot be counted, and says what to write instead. A bad input is a line of `BAD`."""

import shutil
from pathlib import Path
from typing import Any

import pytest

import astray
from astray.errors import (
    AstrayError,
    ConfigurationError,
    DataFormatError,
    DataNotFoundError,
    EmptyDataError,
    UnknownNameError,
)
from counted_files import harness, logged, only, table, words


def files(folder: Path) -> dict[str, Path]:
    """The inputs of the table of bad input, by the names that it uses."""
    made = {
        "good": logged(folder / "good.eval", words("CI")),
        "copy": Path(shutil.copy(folder / "good.eval", folder / "copy.eval")),
        "unscored": logged(folder / "unscored.eval", words("--")),
        "two-scores": logged(folder / "two.eval", [{"a": "C", "b": "I"}]),
        "rivers": logged(folder / "rivers.eval", words("CI"), task="rivers"),
        "other-model": logged(folder / "other.eval", words("CI"), model="openai/n"),
        "infinite": logged(folder / "infinite.eval", [{"s": float("inf")}, {"s": 1.0}]),
        "numbers": logged(folder / "numbers.eval", [{"s": 0.5}, {"s": 1.0}]),
        "dicts": logged(folder / "dicts.eval", [{"s": {"a": 1, "b": 0}}]),
        "lists": logged(folder / "lists.eval", [{"s": [1, 2]}]),
        "elsewhere": logged(folder / "elsewhere.eval", words("CI"), ask="Where is {}?"),
        "table": table(folder / "a.csv", "question,answer,verdict,judge", "q1,yes,bad,g", "q2,no,good,g"),
        "table-again": table(folder / "again.csv", "question,answer,verdict,judge", "q1,yes,bad,g", "q2,no,good,g"),
        "other-questions": table(folder / "b.csv", "question,answer,verdict,judge", "x1,yes,bad,g", "x2,no,good,g"),
        "two-columns": table(folder / "c.csv", "question,verdict,score", "q1,bad,1"),
        "no-score": table(folder / "d.csv", "question,said", "q1,bad"),
        "no-question": table(folder / "e.csv", "verdict", "bad", "good"),
        "hole": table(folder / "f.csv", "question,verdict", "q1,bad", ",good"),
        "words": table(folder / "g.csv", "question,score", "q1,0.5", "q2,n/a"),
        "nan": table(folder / "h.csv", "question,score", "q1,0.5", "q2,nan"),
        "numbered": table(folder / "i.csv", "question,sample,verdict", "q1,1,bad", "q1,1,good"),
        "empty": table(folder / "j.csv", "question,verdict"),
        "filters": harness(folder / "m", [{"acc": 1.0}, {"acc": 1.0, "filter": "strict"}]),
        "labels": table(folder / "labels.csv", "question,answer,label,judge", "q1,yes,bad,other"),
        "labels-elsewhere": table(folder / "labels2.csv", "question,answer,label", "q9,yes,bad"),
        "labels-strange": table(folder / "labels3.csv", "question,answer,label", "q1,yes,awful"),
        "labels-twice": table(folder / "labels4.csv", "question,answer,label", "q1,yes,bad", "q1,yes,good"),
        "labels-one-kind": table(folder / "labels5.csv", "question,answer,label", "q1,yes,bad"),
        "blanks": table(folder / "k.csv", "question,verdict", "q1,bad", "q2, bad", "q3,good"),
        "capitals": table(folder / "l.csv", "question,verdict", "q1,bad", "q2,Bad"),
        "truths": table(folder / "n.csv", "question,verdict", "q1,True", "q2,true"),
        "two-judges": table(folder / "o.csv", "question,verdict,grader", "q1,bad,g", "q1,good,h"),
        "unseen": table(folder / "q.csv", "question,verdict", "q1,bad\u200b", "q2,bad"),
        "forms": table(folder / "r.csv", "question,verdict", "q1,sch\u00f6n", "q2,scho\u0308n"),
        "wide": table(folder / "s.csv", "question,verdict", "q1,\uff42\uff41\uff44", "q2,bad"),
        "blank-number": table(folder / "t.csv", "question,score", "q1, 1", "q2,1"),
        "digits": table(folder / "u.csv", "question,score", "q1,\u0661", "q2,1"),
        "mixed-truths": table(folder / "v.csv", "question,score", "q1,true", "q2,1", "q3,false"),
        "words-and-truths": table(folder / "w.csv", "question,score", "q1,bad", "q2,1", "q3,false"),
        "umlauts": table(folder / "x.csv", "question,score", "q1,Gr\u00fcn", "q2,gr\u00fcn"),
        "numbered-by-pandas": table(folder / "y.csv", "question,sample,verdict", "q1,0,bad", "q1,0.0,bad", "q2,1,good"),
        "semicolons": table(folder / "p.csv", "question;verdict", "q1;bad"),
        "metrics-of-text": harness(folder / "n", [{"acc": 1.0, "metrics": "acc"}]),
        "labels-two": table(folder / "labels6.csv", "question,answer,label,label2", "q1,yes,bad,good"),
        "labels-human": table(folder / "labels7.csv", "question,answer,label,human_label", "q1,yes,bad,good"),
        "labels-capital": table(folder / "labels8.csv", "question,answer,label,Label", "q1,yes,bad,good"),
        "pattern": folder / "*.csv",
        "address": Path("https://example.invalid/a.csv"),
        "missing": folder / "missing.eval",
        "folder": folder / "nothing",
    }
    made["folder"].mkdir()
    (folder / "broken.eval").write_bytes(b"PK no log")
    (folder / "page.html").write_text("<p>")
    return made | {"broken": folder / "broken.eval", "page": folder / "page.html"}


BAD: dict[str, tuple[str, dict[str, Any], type[AstrayError], str]] = {
    "no hit": ("good", {}, ConfigurationError, r"Its values are C \(1\), I \(1\).*--hit I"),
    "no scores": ("unscored", {"hit": "I"}, EmptyDataError, "no answer has a score"),
    "several scores": ("two-scores", {"hit": "I"}, ConfigurationError, "a, b. Say which, such as --score a"),
    "an unknown scorer": ("good", {"hit": "I", "score": "mach"}, UnknownNameError, "Did you mean 'match'"),
    "a slip in the hit": ("good", {"hit": "X"}, UnknownNameError, "no value of the score"),
    "a slip in among": ("good", {"hit": "I", "among": ["Z", "I"]}, None, ""),  # type: ignore[dict-item]
    "a hit outside": ("good", {"hit": "I", "among": "C"}, ConfigurationError, "a hit is part of the denominator"),
    "a hit that failed": ("good", {"hit": "I", "failed": "I"}, ConfigurationError, "said to be a failure"),
    "no number": ("numbers", {"hit": "<half"}, ConfigurationError, "no number"),
    "two comparisons": ("numbers", {"hit": [">0.1", "<0.7"]}, ConfigurationError, "stands alone"),
    "words compared": ("good", {"hit": "<0.5"}, DataFormatError, r"no numbers: C \(1\), I \(1\)"),
    "words among numbers": ("words", {"hit": "<0.5"}, DataFormatError, r"n/a \(1\).*--failed"),
    "not finite in a log": ("infinite", {"hit": "1"}, DataFormatError, "inf, which is no finite number"),
    "not finite in a table": ("nan", {"hit": "<1"}, DataFormatError, "nan, which is no finite number"),
    "entries": ("dicts", {"hit": "1"}, ConfigurationError, "a, b. Say which, such as --key a"),
    "an unknown entry": ("dicts", {"hit": "1", "key": "c"}, UnknownNameError, "'c'"),
    "a key of words": ("good", {"hit": "I", "key": "a"}, ConfigurationError, "leave out --key a"),
    "lists": ("lists", {"hit": "1"}, DataFormatError, "a list, and not one value"),
    "mixed tasks": ("good rivers", {"hit": "I"}, ConfigurationError, "2 tasks are mixed"),
    "mixed models": ("good other-model", {"hit": "I"}, ConfigurationError, "2 models are mixed"),
    "a log twice": ("good good", {"hit": "I"}, ConfigurationError, "given twice"),
    "a copied log": ("good copy", {"hit": "I"}, ConfigurationError, "given twice"),
    "a copied table": ("table table-again", {"hit": "bad"}, ConfigurationError, "are the same"),
    "doubled samples, one as a float": ("numbered-by-pandas", {"hit": "bad"}, DataFormatError, "counted twice"),
    "doubled samples": ("numbered", {"hit": "bad"}, DataFormatError, "counted twice"),
    "kinds mixed": ("good table", {"hit": "I"}, ConfigurationError, "several kinds"),
    "one on both sides": ("good", {"hit": "I", "against": "good"}, ConfigurationError, "compared with itself"),
    "no common question": (
        "table",
        {"hit": "bad", "against": "other-questions"},
        EmptyDataError,
        "ids are such as 'q1', 'q2' and 'x1', 'x2'",
    ),
    "other texts": ("good", {"hit": "I", "against": "elsewhere"}, EmptyDataError, "tasks or texts differ"),
    "two score columns": ("two-columns", {"hit": "bad"}, ConfigurationError, "Say which: --score verdict"),
    "no score column": ("no-score", {"hit": "bad"}, ConfigurationError, "Say --score COLUMN"),
    "an unknown column": ("table", {"hit": "bad", "score": "verdct"}, UnknownNameError, "Did you mean 'verdict'"),
    "an unknown group": ("table", {"hit": "bad", "by": "arm"}, UnknownNameError, "arm"),
    "an unknown column to choose by": ("table", {"hit": "bad", "where": "arm=x"}, UnknownNameError, "--where"),
    "a value that no answer has": ("table", {"hit": "bad", "where": "judge=x"}, UnknownNameError, "x"),
    "no filter": ("table", {"hit": "bad", "where": "judge"}, ConfigurationError, "COLUMN=VALUE"),
    "a column that logs do not have": (
        "good",
        {"hit": "I", "where": "arm=x"},
        ConfigurationError,
        "model, task and run",
    ),
    "an unknown unit": ("table", {"hit": "bad", "unit": "seed"}, UnknownNameError, "seed"),
    "no question column": ("no-question", {"hit": "bad"}, ConfigurationError, "--unit answer"),
    "a question missing": ("hole", {"hit": "bad"}, DataFormatError, "line 3 has no question"),
    "one run": ("table", {"hit": "bad", "unit": "run"}, ConfigurationError, "there is one"),
    "filters": ("filters", {"hit": "1"}, ConfigurationError, "--filter none"),
    "labels of another judge": ("table", {"hit": "bad", "labels": "labels"}, ConfigurationError, "the judge 'other'"),
    "labels of other answers": (
        "table",
        {"hit": "bad", "labels": "labels-elsewhere"},
        EmptyDataError,
        "labels of others",
    ),
    "a strange label": (
        "table",
        {"hit": "bad", "labels": "labels-strange"},
        DataFormatError,
        "'awful', which no score has",
    ),
    "labels that contradict": (
        "table",
        {"hit": "bad", "labels": "labels-twice"},
        DataFormatError,
        "Keep the right one",
    ),
    "labels of one kind": ("table", {"hit": "bad", "labels": "labels-one-kind"}, EmptyDataError, "cannot be corrected"),
    "an empty file": ("empty", {"hit": "bad"}, EmptyDataError, "is empty"),
    "a missing log": ("missing", {"hit": "I"}, DataNotFoundError, "There is no log"),
    "a folder without logs": ("folder", {"hit": "I"}, EmptyDataError, "a folder with no Inspect log"),
    "a broken log": ("broken", {"hit": "I"}, DataFormatError, "cannot be read as an Inspect log"),
    "a foreign file": ("page", {"hit": "I"}, DataFormatError, "no file that can be counted"),
    "a filter of a table": (
        "table",
        {"hit": "bad", "filter": "x"},
        ConfigurationError,
        "no use with a table: it is about a",
    ),
    "an entry of a word": (
        "table",
        {"hit": "bad", "key": "x"},
        ConfigurationError,
        "has no entries: leave out --key x",
    ),
    "a question of logs": ("good", {"hit": "I", "question": "q"}, ConfigurationError, "no use with an Inspect log"),
    "a score with a blank": ("blanks", {"hit": "bad"}, DataFormatError, "differ in blanks or capital letters"),
    "a blank in the hit": ("blanks", {"hit": " bad"}, DataFormatError, "differ in blanks or capital letters"),
    "a score in capitals": ("capitals", {"hit": "bad"}, DataFormatError, "'Bad' and 'bad'"),
    "two spellings of true": ("truths", {"hit": "true"}, DataFormatError, "'True' and 'true'"),
    "a failure in capitals": ("capitals", {"hit": "bad", "failed": "BAD"}, DataFormatError, "blanks or capital"),
    "a score with a character that is not seen": ("unseen", {"hit": "bad"}, DataFormatError, r"bad\\u200b"),
    "a score in another form of Unicode": (
        "forms",
        {"hit": "sch\u00f6n"},
        DataFormatError,
        "characters that look alike",
    ),
    "a score in wide letters": ("wide", {"hit": "bad"}, DataFormatError, "characters that look alike"),
    "a number after a blank": ("blank-number", {"hit": "1"}, DataFormatError, "differ in blanks"),
    "a number in other digits": ("digits", {"hit": "1"}, DataFormatError, "characters that look alike"),
    "truths and numbers": ("mixed-truths", {"hit": "true"}, DataFormatError, "Write truths in one way"),
    "numbers and truths": ("mixed-truths", {"hit": "1"}, DataFormatError, "Write truths in one way"),
    "truths and numbers, all of them named": (
        "mixed-truths",
        {"hit": ["1", "true"], "among": ["1", "true", "false"]},
        None,
        "",
    ),  # type: ignore[dict-item]
    "truths and numbers, none of them named": ("words-and-truths", {"hit": "bad"}, None, ""),  # type: ignore[dict-item]
    "truths and numbers, one of them named": (
        "words-and-truths",
        {"hit": ["bad", "1"]},
        DataFormatError,
        "not all of them are named",
    ),
    "an umlaut in a word with a capital": (
        "umlauts",
        {"hit": "gr\u00fcn"},
        DataFormatError,
        "'Gr\u00fcn' and 'gr\u00fcn'",
    ),
    "two judges of a question": ("two-judges", {"hit": "bad"}, ConfigurationError, "verdicts of 2 judges: g, h"),
    "semicolons": ("semicolons", {"hit": "bad"}, DataFormatError, "separated by ';'"),
    "metrics of the harness as text": ("metrics-of-text", {"hit": "1"}, DataFormatError, "metrics is 'acc'"),
    "two labels": ("table", {"hit": "bad", "labels": "labels-two"}, DataFormatError, "label and label2"),
    "two labels by name": ("table", {"hit": "bad", "labels": "labels-human"}, DataFormatError, "which of them is"),
    "a label in capitals": ("table", {"hit": "bad", "labels": "labels-capital"}, DataFormatError, "'Label'"),
    "a pattern of files": ("pattern", {"hit": "bad"}, DataNotFoundError, "There is no file"),
    "an address": ("address", {"hit": "bad"}, DataNotFoundError, "There is no file"),
    "a level of 95": ("good", {"hit": "I", "level": 95.0}, ConfigurationError, "0.95"),
}


@pytest.fixture(scope="module")
def bad(tmp_path_factory):
    return files(tmp_path_factory.mktemp("bad"))


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_refused_with_what_to_write(name, bad):
    given, options, error, message = BAD[name]
    options = {
        key: bad.get(value, value) if isinstance(value, str) and key in ("against", "labels") else value
        for key, value in options.items()
    }
    if error is None:
        assert only(astray.count(*(bad[each] for each in given.split()), **options)).denominator in (1, 3)
        return
    with pytest.raises(error, match=message):
        astray.count(*(bad[each] for each in given.split()), **options)
