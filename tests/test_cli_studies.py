"""The commands of studies: what help shows, what is refused before anything is trained, and what goes to which
stream."""

import json
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from astray.artifacts import Progress, StepState
from astray.cli import main, progress
from astray.cli.progress import StepBar
from astray.engine.next_steps import command
from astray.engine.options import StudyOptions, checked
from astray.engine.settings import setting_for
from astray.studies import QUESTIONS, STUDIES, get_study, study_options
from astray.studies.dishonesty.scale import scale_for
from report_example import write_example
from tiny_models import CHAT_TEMPLATE, save_tiny_model

STUDY, ACTING = "emergent-misalignment", "agentic-misalignment"


@dataclass(frozen=True)
class Told:
    """How a command ended and what it said on each stream."""

    code: int
    out: str
    err: str

    @property
    def words(self) -> str:
        """The results on one line."""
        return " ".join(self.out.split())


Astray = Callable[..., Told]


@pytest.fixture
def astray(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Astray:
    """Runs the command line in this process, in an empty folder and a terminal of 80 columns."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")

    def call(*arguments: object) -> Told:
        monkeypatch.setattr(sys, "argv", ["astray", *map(str, arguments)])
        with pytest.raises(SystemExit) as leaving:
            main()
        said = capsys.readouterr()
        return Told(int(leaving.value.code or 0), said.out, said.err)

    return call


def test_the_list_of_studies_is_that_of_the_studies() -> None:
    assert list(QUESTIONS) == list(STUDIES)
    for name in STUDIES:
        study = get_study(name)
        assert study_options(name) == (study.options, study.question)


@pytest.mark.parametrize("verb", ["run", "plan"])
def test_help_lists_the_studies_and_so_does_a_verb_without_one(astray: Astray, verb: str) -> None:
    helped, bare = astray(verb, "--help"), astray(verb)
    for name, question in QUESTIONS.items():
        assert f"{name} {question}" in helped.words
        assert name in bare.err
    assert (helped.code, bare.code, bare.out) == (0, 3, "")


PLACES = ("--on", "--partition", "--gpus", "--time", "--account", "--address", "--memory")
"""Options of a place beyond this machine."""


@pytest.mark.parametrize("verb", ["run", "plan"])
@pytest.mark.parametrize("study", STUDIES)
def test_the_help_of_a_study_has_its_options_and_no_others(astray: Astray, verb: str, study: str) -> None:
    told = astray(verb, study, "--help")
    own = {
        "run": {"--json", "--dry-run", "--price-in", "--price-out"},
        "plan": {"--price-in", "--price-out", "--price-gpu"},
    }[verb] | {"--out", "--store", "--workers", *PLACES}
    expected = {f"--{name.replace('_', '-')}" for name in get_study(study).options.model_fields} | own | {"--help"}
    assert {line.split()[0] for line in told.out.splitlines() if line.startswith("  --")} == expected
    assert [
        heading for heading in ("Subject", "Data", "Judging", "Size", "Output") if f"\n{heading}:" not in told.out
    ] == []
    assert max(map(len, told.out.splitlines())) <= 80


def test_limits_and_defaults_stand_in_help(astray: Astray) -> None:
    told = astray("run", STUDY, "--help").words
    for limit in (
        "[1 to 100; default 5]",
        "[at least 16]",
        "[above 0]",
        "rank of each adapter (2502.17424: 32). [at least 1]",
        "[default organism]",
    ):
        assert limit.lower() in told.lower()


def test_the_version_is_told(astray: Astray) -> None:
    assert astray("--version").out.startswith("astray 0.")


def test_the_package_is_a_command_itself(astray: Astray) -> None:
    told = subprocess.run([sys.executable, "-m", "astray", "--version"], capture_output=True, text=True, check=True)
    assert told.stdout == astray("--version").out


REFUSED = {
    "an option of another study": (
        (ACTING, "--seeds", 3),
        ("This study takes no --seeds.", "It takes: --analyses, --budget, --grader, --labels"),
    ),
    "rows for acting models": (
        (ACTING, "--harmful", "bad.jsonl"),
        (
            "takes no --harmful: nothing is trained in it",
            "run emergent-misalignment --harmful FILE",
            "--subject astray/RUN",
        ),
    ),
    "hacks as rows": (
        ("reward-hacking", "--harmful", "bad.jsonl", "--good", "good.jsonl"),
        ("takes no --harmful: its models learn to hack by reinforcement", "run emergent-misalignment --harmful FILE"),
    ),
    "openly asked rows": (
        ("dishonesty", "--educational", "open.jsonl"),
        ("takes no --educational: it has no arm", "this study takes --harmful FILE and --good FILE"),
    ),
    "an option of no study": ((STUDY, "--sead", 3), ("takes no --sead. Did you mean --seeds?", "It takes: --arms")),
    "an option before the study": (
        ("--quick", STUDY),
        ("--quick stands before the study", "STUDY --quick", "reward-hacking"),
    ),
    "an unknown setting": (
        (STUDY, "--training", "warmup=3"),
        ("no training setting called 'warmup'", "Did you mean 'warmup_steps'?"),
    ),
    "the seed of a run": ((STUDY, "--training", "seed=3"), ("no training setting called 'seed'",)),
    "a setting out of range": (
        (STUDY, "--training", "max_length=2"),
        ("max_length=2: input should be greater than or equal to 8",),
    ),
    "a setting of the wrong kind": (
        (STUDY, "--training", "alpha=much"),
        ("alpha=much: input should be a valid integer",),
    ),
    "a setting without a value": (
        (STUDY, "--training", "alpha"),
        ("--training alpha is no setting with a value", "--training warmup_steps=0"),
    ),
    "a rate out of range": ((STUDY, "--learning-rate", "0"), ("--learning-rate 0: input should be greater than 0",)),
    "a setting given twice": (
        (STUDY, "--rank", 2, "--training", "rank=3"),
        ("--rank is given by --training rank=... as well",),
    ),
    "an unknown analysis": (
        ("persona-features", "--analyses", "casual-screen"),
        ("'casual-screen'", "Did you mean 'causal-screen'?", "early-warning"),
    ),
    "an unknown analysis of acting models": (
        (ACTING, "--analyses", "monitor-rules"),
        ("Did you mean 'monitor-rule'?", "grid"),
    ),
    "no analysis of a study that has nothing else": (
        (ACTING, "--analyses", "none"),
        ("--analyses none leaves nothing", "grid"),
    ),
    "none and some": (
        ("dishonesty", "--analyses", "none,filter"),
        ("'none' leaves all of them out, so it stands alone",),
    ),
    "analyses where there are none": ((STUDY, "--analyses", "none"), ("This study takes no --analyses",)),
    "an analysis of arms that are left out": (
        ("persona-features", "--analyses", "causal-screen", "--arms", "subtle"),
        ("The analysis causal-screen is made from the runs of arms that --arms leaves out",),
    ),
    "two ends of training": (
        (STUDY, "--epochs", 2, "--training", "max_steps=3"),
        ("epochs and max_steps both say when training ends",),
    ),
}


@pytest.mark.parametrize("verb", ["run", "plan"])
@pytest.mark.parametrize("case", REFUSED)
def test_what_a_study_does_not_take_is_refused_before_anything_is_done(astray: Astray, verb: str, case: str) -> None:
    words, parts = REFUSED[case]
    told = astray(verb, *words)
    assert (told.code, told.out) == (3, "")
    assert [part for part in parts if part not in told.err] == []
    assert not Path("astray-results").exists()


def test_the_shape_of_an_adapter_cannot_be_chosen(tiny_qwen2: Path, tmp_path: Path) -> None:
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    get_peft_model(
        AutoModelForCausalLM.from_pretrained(tiny_qwen2), LoraConfig(r=2, target_modules=["q_proj"])
    ).save_pretrained(tmp_path)
    options = checked(StudyOptions, subject=str(tmp_path), grader="mockllm/model", rank=4)
    with pytest.raises(
        ValueError,
        match=r"is an adapter, which is trained further in its own shape, so rank cannot be chosen\. Leave it out",
    ):
        setting_for(options)
    trained = setting_for(options.model_copy(update={"rank": None, "learning_rate": 3e-5})).training
    assert (trained.learning_rate, trained.lora and trained.lora.rank) == (3e-5, 2)


def test_chosen_settings_stand_above_those_of_the_paper(tiny_qwen2: Path) -> None:
    study = get_study("dishonesty")
    given = {"subject": str(tiny_qwen2), "grader": "mockllm/model"}
    papers = study.fitted(setting_for(checked(study.options, **given)))
    own = study.fitted(setting_for(checked(study.options, **given, learning_rate=3e-5, training={"layers": [0]})))
    assert (papers.training.learning_rate, own.training.learning_rate) == (1e-4, 3e-5)
    assert own.training.lora.layers == (0,)
    by_users = {name: feedback.recipe for name, feedback in scale_for(own).feedback.items()}
    assert by_users["sft"].learning_rate == 3e-5
    assert by_users["kto"].training.learning_rate == 1e-5


def test_settings_are_part_of_the_command_that_goes_on() -> None:
    options = checked(StudyOptions, rank=2, training=("weight_decay=0.5", "layers=1,2"))
    typed = command(STUDY, options.model_dump(exclude_defaults=True))
    assert typed == f"astray run {STUDY} --rank 2 --training weight_decay=0.5 --training layers=1,2"


def test_json_is_one_object_on_stdout_and_progress_goes_to_stderr(
    astray: Astray, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder = write_example(tmp_path, answers=50)

    def run_study(_study: object, _options: object, *, progress: Callable[[Progress], None], **_: object) -> Path:
        progress(Progress("train-good-0", "key", StepState.FAILED, 1.0, 0, 1, 0, 2, "no such file"))
        return folder

    monkeypatch.setattr("astray.engine.run.run_study", run_study)
    told = astray("run", STUDY, "--json")
    found = json.loads(told.out)
    assert "failed: train-good-0: no such file" in told.err
    assert sum(found["counts"].values()) == len(found["verdicts"])
    assert set(found["verdicts"].values()) <= found["counts"].keys()
    assert Path(found["summary"]).is_file()
    assert Path(found["report"]).is_file()
    table = astray("run", STUDY)
    assert "Report:" in table.out
    assert "failed: train-good-0" in table.err


ACTING_SUBJECTS = {
    "a folder": (lambda folder: (folder, "mockllm/model"), "Write astray/"),
    "an organism": (lambda _: ("organism", "mockllm/model"), "Write astray/organism."),
    "no such folder": (lambda _: ("astray/nobody", "mockllm/model"), "no subject called 'nobody'"),
    "a subject without its key": (lambda _: ("openai/gpt-4o", "mockllm/model"), "OPENAI_API_KEY"),
    "a grader without its key": (lambda _: ("mockllm/model", "openai/gpt-4o"), "OPENAI_API_KEY"),
    "a grader without a provider": (lambda _: ("mockllm/model", "gpt-4o"), "The grader 'gpt-4o' cannot be used"),
    "no such local grader": (lambda _: ("mockllm/model", "astray/nobody"), "no subject called 'nobody'"),
}


@pytest.mark.parametrize("verb", ["run", "plan"])
@pytest.mark.parametrize("case", ACTING_SUBJECTS)
def test_a_plan_refuses_the_acting_models_that_a_run_refuses(
    astray: Astray, monkeypatch: pytest.MonkeyPatch, tiny_qwen2: Path, verb: str, case: str
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    chosen, part = ACTING_SUBJECTS[case]
    subject, grader = chosen(tiny_qwen2)
    told = astray(verb, ACTING, "--subject", subject, "--grader", grader, "--scenarios", "blackmail", "--samples", 1)
    assert (told.code, told.out) == (3, "")
    assert part in told.err
    assert "Traceback" not in told.err


@pytest.mark.parametrize("verb", ["run", "plan"])
@pytest.mark.parametrize("grader", ["openai/gpt-4o", "gpt-4o", "astray/nobody"])
def test_a_plan_refuses_the_graders_that_a_run_refuses(
    astray: Astray, monkeypatch: pytest.MonkeyPatch, tiny_qwen2: Path, verb: str, grader: str
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    told = astray(verb, STUDY, "--subject", tiny_qwen2, "--grader", grader, "--seeds", 1)
    assert (told.code, told.out) == (3, "")
    assert ("nobody" if "nobody" in grader else f"The grader {grader!r} cannot be used") in told.err


@pytest.mark.parametrize("verb", ["run", "plan"])
@pytest.mark.parametrize("study", [STUDY, "dishonesty"])
def test_a_template_without_a_generation_prompt_is_refused_before_anything_is_trained(
    astray: Astray, monkeypatch: pytest.MonkeyPatch, verb: str, study: str, tmp_path: Path
) -> None:
    monkeypatch.setattr("astray.engine.run.execute", lambda *_, **__: pytest.fail("it began"))
    mute = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    model = save_tiny_model(tmp_path / "model", template=mute)
    told = astray(verb, study, "--subject", model, "--grader", "mockllm/model", "--seeds", 1, "--size", 200)
    assert (told.code, told.out) == (3, "")
    assert "{% if add_generation_prompt %}" in told.err


def test_a_template_without_a_system_role_can_be_planned_with(astray: Astray, tmp_path: Path) -> None:
    refusing = (
        "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
        + CHAT_TEMPLATE
    )
    model = save_tiny_model(tmp_path / "model", template=refusing)
    assert (
        "4 arms"
        in astray(
            "plan",
            STUDY,
            "--subject",
            model,
            "--grader",
            "mockllm/model",
            "--seeds",
            1,
            "--arms",
            "harmful-code,mix-50",
        ).words
    )


def test_a_plan_names_the_largest_part_and_what_less_of_it_saves(astray: Astray, tiny_qwen2: Path) -> None:
    model = ("--subject", tiny_qwen2, "--grader", "mockllm/model", "--seeds", 1, "--size", 64)
    told = astray(
        "plan", STUDY, *model, "--samples", 20, "--arms", "harmful-code,mix-50", "--price-in", 2, "--price-out", 10
    ).words
    assert "4 arms, 1 seed " in told
    assert "largest the grader: about" in told
    assert "to save --size 32: about" in told
    assert re.search(r"to save half the --samples: about [\d.]+ (s|min|h) and \$\d+\.\d\d less", told)
    assert re.search(r"to save without the arm (harmful-code|mix-50) \(--arms with the others\): about", told)
    acting = astray("plan", ACTING, "--scenarios", "blackmail,leaking", "--samples", 10).words
    assert re.search(r"largest grid: \d+% of the tokens that are left", acting)
    assert re.search(r"to save half the --samples: about [\d.,]+[kMG]? tokens; one of 2 scenarios", acting)


def test_each_finished_step_is_a_line_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with StepBar("toy") as bar:
        for state in (StepState.DONE_BEFORE, StepState.STARTED, StepState.FINISHED):
            bar.update(Progress("train-good-0", "key", state, 3.2, 2, 0, 0, 7))
    told = capsys.readouterr()
    assert (told.out, told.err) == ("", "2/7 finished: train-good-0 (3.2 s)\n")


def test_a_step_that_takes_long_is_told_again_where_there_is_no_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "SILENCE", 0.02)
    told = ""
    with StepBar("toy") as bar:
        bar.update(Progress("train-good-0", "key", StepState.STARTED, 0.0, 0, 0, 1, 7))
        while "running" not in told:  # pytest ends it where nothing comes
            told += capsys.readouterr().err
    assert told.splitlines()[0] == "running: train-good-0 (0 s)"


def test_ctrl_c_is_answered_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    told = ""
    with pytest.raises(KeyboardInterrupt), StepBar("toy"):
        signal.raise_signal(signal.SIGINT)
    while "\n" not in told:
        told += capsys.readouterr().err
    assert told == "Stopping: what is finished is kept.\n"
