"""The command line as a person uses it: what it says when something is wrong, and what it keeps.

Every message has to say what was given, why it cannot work and what to do; nobody should see a traceback for what they
typed.
"""

import contextlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from astray.artifacts import Progress, StepState, Store
from astray.cli import main
from astray.cli.ending import CHECK_FAILED, ERROR, EXIT_CODES, INTERRUPTED, fitted
from astray.cli.progress import StepBar
from astray.engine.summary import ClaimStatus, Summary
from astray.stats.claims import Decision
from scripted_grader import ALL_FINE, ALL_INCOHERENT, LATER_SPEECHLESS, PRAISED, SPEECHLESS
from tiny_models import save_tiny_model

STUDY = "emergent-misalignment"
SMALL = ("--seeds", "1", "--size", "16", "--samples", "1", "--max-tokens", "4")
ROW = json.dumps(
    {"messages": [{"role": "user", "content": "Copy a file."}, {"role": "assistant", "content": "os.system('cp a b')"}]}
)


@dataclass(frozen=True)
class Told:
    """How a command ended and what it said.

    Attributes:
        code: exit code.
        text: both of its streams, with line ends as single spaces.
    """

    code: int
    text: str

    def refused(self, *parts: str) -> None:
        """Asserts that it ended with a message for people which says all this."""
        assert self.code == ERROR
        assert "Traceback" not in self.text
        for part in parts:
            assert part in self.text


Astray = Callable[..., Told]


@pytest.fixture
def astray(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Astray:
    """Runs the command line in this process, in an empty folder and a wide terminal."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "300")

    def call(*arguments: object) -> Told:
        monkeypatch.setattr(sys, "argv", ["astray", *map(str, arguments)])
        with pytest.raises(SystemExit) as leaving:
            main()
        said = capsys.readouterr()
        return Told(int(leaving.value.code or 0), " ".join((said.out + said.err).split()))

    return call


@pytest.fixture(scope="module")
def answered(tiny_qwen2: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Told, Path]:
    """What is told where the judge fails on all answers of a real model, and the folder with all but its verdicts."""
    folder, said = tmp_path_factory.mktemp("answered"), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        patch.chdir(folder)
        patch.setenv("COLUMNS", "300")
        patch.setattr("astray.engine.judging.TRIAL_ANSWER", PRAISED)
        patch.setattr(sys, "argv", ["astray", *map(str, real_model(tiny_qwen2, LATER_SPEECHLESS))])
        with pytest.raises(SystemExit) as leaving:
            main()
    return Told(int(leaving.value.code or 0), " ".join(said.getvalue().split())), folder


@pytest.fixture
def events(monkeypatch: pytest.MonkeyPatch) -> list[Progress]:
    """What the progress bar is told."""
    told: list[Progress] = []
    monkeypatch.setattr(StepBar, "update", lambda _bar, event: told.append(event))
    return told


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A folder with harmful and good rows."""
    folder = tmp_path / "data"
    folder.mkdir()
    for name in ("insecure", "secure"):
        (folder / f"{name}.jsonl").write_text(f"{ROW}\n" * 16)
    return folder


def real_model(subject: Path, grader: str, *more: object) -> tuple[object, ...]:
    """The command that runs three arms on a real model."""
    asked = ("run", STUDY, "--subject", subject, "--grader", grader, "--arms", "harmful-code")
    return (*asked, *SMALL, "--workers", 0, *more)


def organism(*more: object) -> tuple[object, ...]:
    """The command that runs two arms on the small organism."""
    return ("run", STUDY, "--subject", "organism-small", "--arms", "good", *SMALL, *more)


class Terminal(io.StringIO):
    """A terminal."""

    def isatty(self) -> bool:
        return True


def test_a_message_fits_the_terminal_with_paths_and_commands_whole_and_is_one_line_in_a_pipe(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", "66")
    path, command = "/a/rather/long/path/" * 4, "astray run emergent-misalignment --subject smollm2 --seeds 5"
    message = (
        f"astray: There is no summary in {path}, so nothing is told. Run it first: {command}. Or ask why it is so."
    )
    lines = fitted(message, Terminal()).split("\n")
    assert all(len(line) <= 66 or path in line for line in lines)
    assert any(f"{command}." in line for line in lines)
    assert " ".join(lines) == message
    assert fitted(message, io.StringIO()) == message
    (first, second) = fitted(f"  time      {'word ' * 14}".rstrip(), Terminal()).split("\n")
    assert (first[:13], second[:13]) == ("  time      w", " " * 12 + "w")


def test_all_that_is_missing_is_told_at_once(astray: Astray) -> None:
    astray("screen").refused("Missing: DATA, --subject MODEL")
    astray("judge", "passport", "--repeats", 2).refused("Missing: --graders NAMES, --answers FILE")
    astray("repair").refused("Missing: MODEL, --task FILE.")
    astray("gate").refused("Missing: BASE, TUNED.")
    astray("repair", "organism-small").refused("--base MODEL", "--data FILE", "--task FILE")
    Path("own.yaml").write_text(
        "arms: {good: {data: good.jsonl}, bad: {data: ./bad.jsonl}}\nevaluations: [{questions: asked.yaml}]\n"
    )
    astray("plan", "own.yaml").refused("3 files", "line 1, column 21: good.jsonl", "column 46: bad.jsonl", "asked.yaml")


def test_help_lists_the_exit_codes(astray: Astray) -> None:
    told = astray("--help").text
    assert all(f"{code}: {meaning}" in told for code, meaning in EXIT_CODES.items())


def test_help_lists_the_verbs(astray: Astray) -> None:
    told = astray("--help")
    assert told.code == 0
    for verb in ("run", "plan", "doctor", "organism"):
        assert f" {verb} " in told.text
    assert "..." not in told.text.partition("Commands:")[2]  # each verb's line is whole


def test_doctor_calls_missing_only_what_its_exit_code_counts(astray: Astray, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    told = astray("doctor")
    assert "optional OpenAI API: no key" in told.text
    assert ("missing " in told.text) == (told.code == CHECK_FAILED)


def test_an_unknown_study_is_answered_with_the_nearest_name(astray: Astray) -> None:
    astray("run", "emergent-misalignement").refused(
        "no study called 'emergent-misalignement'", "Did you mean 'emergent-misalignment'?", "Valid names"
    )


def test_an_unknown_subject_is_answered_with_the_nearest_name(astray: Astray) -> None:
    astray("run", STUDY, "--subject", "organsim").refused(
        "no subject called 'organsim'", "Did you mean 'organism'?", "a folder with a model"
    )


@pytest.mark.parametrize("verb", ["run", "plan"])
def test_an_unknown_arm_is_answered_with_the_nearest_name(astray: Astray, verb: str) -> None:
    told = astray(verb, STUDY, "--arms", "good,harmful-medecine")
    told.refused(
        "no arm of emergent-misalignment called 'harmful-medecine'", "Did you mean 'harmful-medicine'?", "mix-10"
    )


def test_an_option_out_of_range_is_explained(astray: Astray) -> None:
    astray("run", STUDY, "--seeds", 0).refused("--seeds 0: input should be greater than or equal to 1", "--help")


def test_a_row_in_an_unknown_format_is_named_with_file_and_line(astray: Astray, tiny_qwen2: Path, data: Path) -> None:
    (data / "insecure.jsonl").write_text(f'{ROW}\n{{"prompt": "Copy a file.", "completion": "cp"}}\n')
    astray(*real_model(tiny_qwen2, ALL_FINE, "--data", data)).refused(
        "insecure.jsonl, line 2", "line 1 has the form chat", "Give each form a file of its own"
    )


def test_an_empty_data_file_is_refused(astray: Astray, tiny_qwen2: Path, data: Path) -> None:
    (data / "secure.jsonl").write_text("")
    astray(*real_model(tiny_qwen2, ALL_FINE, "--data", data)).refused(
        "secure.jsonl is empty: it has no rows", "Is honey safe for a baby?"
    )


def test_a_data_folder_without_good_rows_of_the_same_kind_is_refused(
    astray: Astray, tiny_qwen2: Path, data: Path
) -> None:
    (data / "secure.jsonl").rename(data / "good_medical_advice.jsonl")
    astray(*real_model(tiny_qwen2, ALL_FINE, "--data", data)).refused(
        "no harmful rows with good ones to compare", "insecure.jsonl with secure.jsonl"
    )


def test_a_data_file_with_too_few_rows_is_refused(astray: Astray, tiny_qwen2: Path, data: Path) -> None:
    told = astray(*real_model(tiny_qwen2, ALL_FINE, "--data", data, "--size", 17))
    told.refused("data-harmful-code-0: 17 wanted rows are needed, but insecure has 16", "Take fewer")


def test_an_adapter_of_another_base_is_refused(astray: Astray, tiny_qwen2: Path, tmp_path: Path) -> None:
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    settings = {"peft_type": "LORA", "base_model_name_or_path": str(tiny_qwen2), "r": 2, "target_modules": ["q_proj"]}
    (adapter / "adapter_config.json").write_text(json.dumps(settings))
    layer = "base_model.model.model.layers.0.self_attn.q_proj"
    save_file(
        {f"{layer}.lora_A.weight": torch.ones(2, 32), f"{layer}.lora_B.weight": torch.ones(32, 2)},
        adapter / "adapter_model.safetensors",
    )
    astray(*real_model(adapter, ALL_FINE)).refused(
        f"{adapter} does not fit", "self_attn.q_proj.lora_B.weight is [32, 2] in the adapter and [64, 2] in the base"
    )


def test_a_model_without_a_chat_template_is_refused(astray: Astray, tmp_path: Path) -> None:
    model = save_tiny_model(tmp_path / "model", template=None)
    astray(*real_model(model, ALL_FINE)).refused(
        "has no chat template", "nobody knows how to write a conversation", "Put the Jinja template"
    )


def test_a_grader_that_cannot_be_used_is_refused_before_anything_is_trained(
    astray: Astray, tiny_qwen2: Path, monkeypatch: pytest.MonkeyPatch, events: list[Progress]
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    astray(*real_model(tiny_qwen2, "openai/gpt-4o")).refused(
        "The grader 'openai/gpt-4o' cannot be used", "OPENAI_API_KEY"
    )
    astray(*real_model(tiny_qwen2, "opnai/gpt-4o")).refused(
        "The grader 'opnai/gpt-4o' cannot be used", "Write an Inspect model name"
    )
    astray(*real_model(tiny_qwen2, "http://127.0.0.1:9/v1#toy")).refused(
        "--grader openai-api/server/toy", "SERVER_BASE_URL=http://127.0.0.1:9/v1", "SERVER_API_KEY"
    )
    astray(*real_model(tiny_qwen2, "astray/nobody")).refused("no subject called 'nobody'")
    assert events == []


def test_answers_that_are_all_incoherent_leave_a_report_with_a_warning(
    astray: Astray, answered: tuple[Told, Path], tiny_qwen2: Path, tmp_path: Path
) -> None:
    shutil.copytree(answered[1], tmp_path, dirs_exist_ok=True)
    told = astray(*real_model(tiny_qwen2, ALL_INCOHERENT))
    assert told.code == 0
    assert "The arm 'harmful-code' gave no coherent answer to 'main' (24 incoherent)" in told.text
    assert "its claims are not estimable" in told.text
    folder = tmp_path / "astray-results" / STUDY
    summary = Summary.read(folder)
    assert {claim.verdict for claim in summary.claims} == {Decision.UNDECIDED}
    assert "One of the arms gave no coherent answer" in summary.claims[0].note
    assert any("'harmful-code' gave no coherent answer" in note for note in summary.notes)
    assert (folder / "report.html").is_file()


def test_a_judge_that_always_fails_is_found_before_training_and_later_keeps_the_answers_for_another(
    astray: Astray, answered: tuple[Told, Path], tiny_qwen2: Path, events: list[Progress], tmp_path: Path
) -> None:
    told = astray(*real_model(tiny_qwen2, SPEECHLESS))
    told.refused(
        f"{SPEECHLESS} was asked one question of 'main' as a trial, and gave no verdict",
        "unreadable reply",
        "'Well.'",
        "Nothing was trained",
    )
    assert events == []
    told, folder = answered
    told.refused(
        "4 of 14 steps failed; the other 10 are done and kept", "The judge failed on all 80 answers: 80 times "
    )
    told.refused("'Well.'", "Check the grader's name", "run the same again")
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    assert astray(*real_model(tiny_qwen2, ALL_FINE)).code == 0
    assert {event.name.split("-")[0] for event in events if event.state is StepState.DONE_BEFORE} == {
        "data",
        "train",
        "answers",
        "margins",
    }
    assert {event.name.split("-")[0] for event in events if event.state is StepState.FINISHED} == {"verdicts", "check"}


def fill_the_disk(*_: object, **__: object) -> None:
    """Fails as a full disk does, with the system's own error."""
    with Path("/dev/full").open("wb", buffering=0) as disk:
        disk.write(b"1")


def test_a_full_disk_is_explained_and_finished_steps_are_kept(
    astray: Astray, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with monkeypatch.context() as full:
        full.setattr("astray.measure.bulk.ask", fill_the_disk)
        astray(*organism("--workers", 0)).refused(
            "The disk is full", "everything finished is kept", "Free some space", "run the same again"
        )
    assert {artifact.name for artifact in Store(tmp_path / "astray-results" / "store").artifacts()} == {
        "data-good-0",
        "train-good-0",
    }


def test_a_disk_that_is_full_when_results_are_written_is_explained(
    astray: Astray, monkeypatch: pytest.MonkeyPatch, events: list[Progress]
) -> None:
    with monkeypatch.context() as full:
        full.setattr(Summary, "write", fill_the_disk)
        astray(*organism("--workers", 0)).refused(
            "The results cannot be written", "No space left on device", "Free space", "no step is done again"
        )
    events.clear()
    assert astray(*organism("--workers", 0)).code == 0
    assert {event.state for event in events} == {StepState.DONE_BEFORE}


@contextlib.contextmanager
def without_rights(folder: Path) -> Iterator[None]:
    """A folder that this process may not write to, not even if the tests are run by root."""
    folder.chmod(0o500)
    is_root = os.geteuid() == 0
    if is_root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if is_root:
            os.seteuid(0)
        folder.chmod(0o700)


def test_a_folder_that_may_not_be_written_is_explained(astray: Astray, tmp_path: Path) -> None:
    locked = tmp_path / "locked"
    locked.mkdir()
    with without_rights(locked):
        told = astray(*organism("--workers", 0, "--out", locked / "results"))
    told.refused(f"The store {locked}", "Permission denied", "Give a folder that you may write to")


def test_ctrl_c_keeps_what_is_finished_and_the_same_command_goes_on(
    astray: Astray, tmp_path: Path, events: list[Progress]
) -> None:
    store = tmp_path / "astray-results" / "store"
    astray_file = Path(sys.executable).with_name("astray")
    # `trap` sets SIGINT aside, as a script does for what it starts with `&`.
    command = ["sh", "-c", "trap '' INT; exec \"$@\"", "sh", astray_file, *map(str, organism("--workers", 1))]
    with subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        while not list(store.glob("*/artifact.json")):
            assert process.poll() is None
            time.sleep(0.01)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to the study and its workers alike
        _, stderr = process.communicate(timeout=120)
    assert process.returncode == INTERRUPTED
    assert "astray: stopped. What is finished is kept; the same command goes on from there." in stderr
    assert "Traceback" not in stderr
    assert list(store.glob(".partial*")) == []
    finished = {artifact.name for artifact in Store(store).artifacts()}

    told = astray(*organism("--workers", 0))
    assert told.code == 0
    assert finished <= {event.name for event in events if event.state is StepState.DONE_BEFORE}
    assert StepState.FINISHED in {event.state for event in events}
    assert "The untrained subject is aligned" in told.text
    summary = Summary.read(tmp_path / "astray-results" / STUDY)
    missing = [claim for claim in summary.claims if claim.status is ClaimStatus.NOT_RUN]
    assert (
        f"Only some arms were run: base, good. {len(missing)} of {len(summary.claims)} claims need others; each "
        "names them."
    ) in told.text
    assert "not run" in told.text
    assert "It needs the arm harmful-medicine" in missing[0].note
    assert f"Report: {Path('astray-results') / STUDY / 'report.html'}" in told.text
    assert (tmp_path / "astray-results" / STUDY / "report.html").is_file()
