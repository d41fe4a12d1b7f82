"""Pipes that break while a command runs: a reader that leaves early is neither an error nor a failed check."""

import errno
import os
import sys

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


def test_a_broken_pipe_of_a_worker_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_context: object) -> None:
        raise BrokenPipeError(errno.EPIPE, "Broken pipe")

    monkeypatch.setattr(app.commands["list"], "invoke", broken)
    assert ended(monkeypatch, "list") == ERROR
