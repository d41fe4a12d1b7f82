"""Pipes that break while a command runs: a reader that leaves early is neither an error nor a failed check."""

import errno
import os
import sys
from pathlib import Path

import pytest

from astray.cli import app, main
from astray.cli.ending import ERROR, PIPE_CLOSED


def ended(monkeypatch: pytest.MonkeyPatch, word: str) -> object:
    """Return the exit code of `astray WORD`."""
    monkeypatch.setattr(sys, "argv", ["astray", word])
    with pytest.raises(SystemExit) as leaving:
        main()
    return leaving.value.code


@pytest.mark.parametrize("word", ["--help", "list", "schema", "nonsense"])
def test_a_reader_that_leaves_early_is_no_failed_check(word: str, monkeypatch: pytest.MonkeyPatch) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w", buffering=1) as gone:
        name = "stderr" if word == "nonsense" else "stdout"
        monkeypatch.setattr(sys, name, gone)
        monkeypatch.setattr(sys, f"__{name}__", gone)
        assert ended(monkeypatch, word) == PIPE_CLOSED


@pytest.mark.parametrize(("name", "word"), [("stdout", "list"), ("stdout", "--help"), ("stderr", "nonsense")])
def test_output_on_a_full_disk_is_an_error_and_no_failed_check(name, word, monkeypatch, capfd) -> None:
    with Path("/dev/full").open("w", buffering=1) as full:
        monkeypatch.setattr(sys, name, full)
        monkeypatch.setattr(sys, f"__{name}__", full)
        assert ended(monkeypatch, word) == ERROR
        print("goes nowhere", file=full)
    told = capfd.readouterr().err
    assert ("The disk is full: No space left on device" in told) == (name == "stdout")
    assert "Traceback" not in told


def test_a_broken_pipe_of_a_worker_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_context: object) -> None:
        raise BrokenPipeError(errno.EPIPE, "Broken pipe")

    monkeypatch.setattr(app.commands["list"], "invoke", broken)
    assert ended(monkeypatch, "list") == ERROR
