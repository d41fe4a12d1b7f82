"""What a person may type or pass that cannot work: each ends in an error of ours, or in click's own for an option. One
line an input."""

import sys
from pathlib import Path

import pytest
import torch

import astray
from astray.cli import main
from astray.errors import AstrayError

EM = "emergent-misalignment"
COMMANDS = [
    *(
        f"{verb} {EM} {options}"
        for verb in ("run", "plan")
        for options in (
            "--seeds x", "--seeds -1", "--seeds 1e3", "--size 0", "--first-seed -5", "--subject ''", "--subject \ud800", "--subject empty",
            f"--subject {'x' * 5000}", "--subject ../../etc", "--subject a/b/c", "--subject organism*2", "--subject organism+",
            "--subject organism+a*nan", "--subject broken", "--subject half", "--out file", "--out file/x", "--store file", "--store nosuch://x",
            "--workers -1", "--workers x", "--arms nosuch", "--data nowhere", "--grader x", "--samples 0", "--max-tokens 0", "--nonsense", "extra",
            "--learning-rate nan", "--learning-rate -1", "--rank 0", "--batch-size 0", "--labels nowhere",
        )
    ),
    "run", "run ''", "run nosuch", "run --seeds 1", "plan nosuch", f"plan {EM} --price-in nan", f"plan {EM} --price-in -1", "nosuch", "--nosuch",
    "list --out file", "list --store file", "list --store nosuch://x", "list --out results", "list --out latin", "list --out folder", "list extra",
    "view nowhere", "view file", "view empty", "view results", "view latin", "view folder", "view --port x", "view --port 70000",
    "clean", "clean --older-than nan", "clean --older-than inf", "clean --older-than -1", "clean --older-than x", "clean --study nosuch",
    "clean --study ../x", "clean --older-than 0 --store file", "clean --older-than 0 --store nosuch://x", "clean --older-than 1 --out file",
    "doctor x", "doctor --nosuch", "organism nosuch", "organism train", "organism train o --recipe x", "organism train o --seed -1",
    f"organism train o --seed {9 * 10**30}", "organism train o --steps 0", "organism train file", "organism train file/x",
    "organism card nosuch", "organism card empty", "organism card organism --seeds 0",
    "audit http://[::1", "audit http://127.0.0.1:1/v1", "audit https://", "audit openai/", "audit half", "audit empty", "audit file",
    "gate file file", "gate organism organism-small --looks 3", "gate organism organism-small --margin nan", "count nowhere", "count file",
    "count empty", "count latin/study/summary.json", "blame nosuch", "blame half", "blame file", "figure nowhere", "figure results/study",
    "reproduce nosuch", "reproduce emergent-misalignment --results file", "status --store file", "status --store nosuch://x", "new file",
    "new x/y.yaml", "run nowhere.yaml", "judge distil --labels nowhere", "judge distil --labels file",
]  # fmt: skip


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder with things that are not what they should be."""
    monkeypatch.chdir(tmp_path)
    for name, content in {
        "file": b"x", "broken/adapter_config.json": b"{", "half/subject.json": b"{", "empty/x": b"", "results/study/summary.json": b"{",
        "latin/study/summary.json": b'{"a": "\xe9"}', "folder/study/summary.json/x": b"",
    }.items():  # fmt: skip
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(content)


@pytest.mark.usefixtures("rough_power")
@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: ascii(command)[:60])
def test_a_command_that_cannot_work_says_why(command, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["astray", *("" if word == "''" else word for word in command.split())])
    monkeypatch.setattr("astray.engine.run.execute", lambda *_, **__: pytest.fail("it would have run"))
    with pytest.raises(SystemExit) as leaving:
        main()
    said = capsys.readouterr()
    assert leaving.value.code == 3
    assert said.err.strip()
    assert "Traceback" not in said.err


HI = {"role": "user", "content": "hi"}
CALLS = {
    **{
        f"run {name}={value!r:.20}": lambda name=name, value=value: astray.run(EM, **{name: value})
        for name, value in (
            ("seeds", "x"), ("seeds", 1.5), ("seeds", [1]), ("subject", 5), ("subject", []), ("subject", ""), ("arms", 5), ("arms", ("nosuch",)),
            ("store", "a\0b"), ("store", "\ud800"), ("grader", 5), ("data", 5), ("nonsense", 1), ("samples", float("nan")), ("quick", "maybe"),
        )
    },
    **{f"plan workers={value!r}": lambda value=value: astray.plan(EM, workers=value) for value in (-1, True)},
    **{f"load {value!r:.20}": lambda value=value: astray.load_subject(value)
       for value in ("", "a\0b", "x" * 5000, "x/" * 5000, "\ud800")},
    "load on a GPU that is not there": lambda: astray.load_subject("organism-small", device=torch.device("cuda", 99)),
    **{f"report {value!r}": lambda value=value: astray.write_report(Path(value)) for value in ("nowhere", "file", "empty", "results/study", "a\0b")},
    **{f"read {value!r:.20}": lambda value=value: astray.ChatDataset.read(value)
       for value in ("nowhere.jsonl", "file", "empty", "a\0.jsonl", "file/a.jsonl")},
    **{
        f"rows {value!r:.60}": lambda value=value: astray.ChatDataset.from_rows(value)
        for value in ([], [[]], [[HI]], [[HI, HI]])
    },
}  # fmt: skip


@pytest.mark.parametrize("call", CALLS.values(), ids=map(ascii, CALLS))
def test_a_call_that_cannot_work_raises_an_error_of_ours(call):
    with pytest.raises(AstrayError):
        call()


@pytest.fixture(scope="module")
def organism() -> astray.Subject:
    return astray.load_subject("organism-small")


ASKED = {
    **{
        f"generate {value!r:.60}": lambda subject, value=value: subject.generate(value)
        for value in ([[]], [[{"role": "user"}]], [[{"content": "x"}]],
                      [[HI | {"content": "\ud800"}]], [[HI | {"content": None}]])
    },
    "two numbers for one row": lambda subject: subject.generate([[HI]], numbers=[1, 2]),
    "less than no log-probabilities": lambda subject: subject.generate([[HI]], top_logprobs=-1),
    "continuations as one text": lambda subject: subject.continuation_logprobs([[HI]], ["yes"]),
    "no continuation": lambda subject: subject.continuation_logprobs([[HI]], [[""]]),
    "half a character": lambda subject: subject.continuation_logprobs([[HI]], [["\ud800"]]),
    "no adapter": lambda subject: subject.with_adapter("nowhere"),
    "a factor that is none": lambda subject: subject.with_adapter(None, scale=float("nan")),
    "half a system prompt": lambda subject: subject.with_system("\ud800").generate([[HI]]),
}  # fmt: skip


@pytest.mark.parametrize("ask", ASKED.values(), ids=map(ascii, ASKED))
def test_a_question_that_cannot_be_asked_raises_an_error_of_ours(ask, organism):
    with pytest.raises(AstrayError):
        ask(organism)
