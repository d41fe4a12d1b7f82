"""Sampling through vLLM: answers and log-probabilities are those of the same weights here, servers and adapters are shared,
and of every fault either nothing is lost, or an error names it and no answer counts."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import astray
from astray.answers import read_answers
from astray.artifacts import Store
from astray.artifacts.manifest import Origin
from astray.engine.steps import AnswerConfig, answer
from astray.errors import AstrayError, ConfigurationError, EngineError, MissingExtraError, ProofError, UnknownNameError
from astray.kept import Keeper
from astray.measure.asking import Item
from astray.measure.evaluation import QuestionSet
from astray.measure.forced_choice import ForcedChoice
from astray.measure.meter import Meter, harmful_pairs
from astray.subjects.engines import lease, pump
from astray.subjects.engines.served import ServedSubject, asked_subject
from astray.subjects.engines.spec import Engine, engine_named
from astray.subjects.locate import settle, spec_of
from astray.subjects.spec import Intervention, Sampling, SubjectSpec
from astray.subjects.subject import Subject, load_subject
from tiny_models import save_tiny_model
from vllm_server import VllmServer, install

GREEDY = Sampling(temperature=0, max_tokens=6)
CHATS = [[{"role": "user", "content": f"What is {number} and {number}?"}] for number in range(32)]


def save_adapter(base: Path, folder: Path, seed: int, rank: int = 4, **settings: Any) -> Path:
    """Saves a LoRA adapter of random weights, which changes much."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, set_seed

    model = AutoModelForCausalLM.from_pretrained(base)
    set_seed(seed)
    chosen = {"target_modules": ["q_proj", "v_proj", "down_proj"]} | settings
    tuned = get_peft_model(model, LoraConfig(**{"r": rank, "lora_alpha": rank, "init_lora_weights": False} | chosen))
    tuned.save_pretrained(folder, save_embedding_layers=False)
    return folder


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> SimpleNamespace:
    """A base, adapters of it, and the same shape with other weights."""
    home = tmp_path_factory.mktemp("models")
    base = save_tiny_model(home / "base")
    return SimpleNamespace(
        base=base,
        a=save_adapter(base, home / "a", 1),
        b=save_adapter(base, home / "b", 2),
        head=save_adapter(base, home / "head", 3, target_modules=["q_proj", "lm_head"]),
        stranger=save_tiny_model(home / "stranger", seed=9),
    )


@pytest.fixture(autouse=True)
def _quickly(monkeypatch, tmp_path_factory) -> Iterator[None]:
    monkeypatch.setattr(pump, "PAUSE", 0.01)
    monkeypatch.setattr(pump, "LOOK", 0.05)
    monkeypatch.setattr(pump, "CONFIRM_EVERY", 8)
    monkeypatch.setattr("astray.subjects.engines.served.RETURNS_WITHIN", 0.3)
    monkeypatch.setenv("ASTRAY_CACHE", str(tmp_path_factory.getbasetemp() / "engines-cache"))
    yield
    lease.release()


@pytest.fixture
def server(models) -> Iterator[VllmServer]:
    with VllmServer(models.base).running() as server:
        yield server


def spec(models: SimpleNamespace, adapter: str = "", **settings: Any) -> SubjectSpec:
    return spec_of(model=str(models.base), adapter=getattr(models, adapter) if adapter else None, **settings)


def served(
    models: SimpleNamespace, url: str, adapter: str = "", keeper: Keeper | None = None, **more: Any
) -> ServedSubject:
    return ServedSubject(settle(spec(models, adapter, **more)), Engine(address=url, rank=4), keeper)


def texts(subject: Subject, sampling: Sampling = GREEDY) -> list[str]:
    return [each.text for each in subject.generate(CHATS, sampling)]


@pytest.fixture(scope="module")
def said_here(models) -> Callable[[str], list[str]]:
    """What the weights with an adapter say here, who are asked once."""
    return cache(lambda adapter: texts(load_subject(spec(models, adapter))))


@pytest.mark.parametrize(
    ("adapter", "more"), [("", {}), ("a", {}), ("b", {"scale": 0.5}), ("a", {"system": "Be kind."})]
)
def test_a_served_subject_says_and_scores_what_the_same_weights_do_here(adapter, more, models, server):
    here, there = load_subject(spec(models, adapter, **more)), served(models, server.url, adapter, **more)
    assert texts(there) == texts(here)
    assert (there.id, there.name) == (here.id, here.name)
    one, other = (each.generate(CHATS[:3], GREEDY, top_logprobs=2) for each in (here, there))
    for mine, theirs in zip(one, other, strict=True):
        assert (theirs.completion_tokens, theirs.stop_reason) == (mine.completion_tokens, mine.stop_reason)
        assert [each.logprob for each in theirs.logprobs] == pytest.approx(
            [each.logprob for each in mine.logprobs], abs=1e-4
        )
        assert [each.token for each in theirs.logprobs] == [each.token for each in mine.logprobs]
    meter = Meter(pairs=harmful_pairs()[:4])
    assert meter.margins(there) == pytest.approx(meter.margins(here), abs=1e-4)
    [choice] = {str(each.ask(there)["detail"][0]) for each in (ForcedChoice(),)}
    [mine] = {str(each.ask(here)["detail"][0]) for each in (ForcedChoice(),)}
    assert json.loads(choice)["probabilities"] == pytest.approx(json.loads(mine)["probabilities"], abs=1e-4)
    [proof] = there.proofs
    assert proof["off"] <= 2 * proof["noise"]
    there.close()
    assert server.model.adapters == {}  # unloaded


def test_settings_that_a_server_has_other_defaults_for_are_all_sent(models, server):
    subject = served(models, server.url)
    subject.generate(CHATS[:1], Sampling(temperature=0.7, top_p=0.9, max_tokens=3))
    body = next(each for each in server.model.bodies if "top_p" in each)
    assert (body["temperature"], body["top_p"], body["top_k"], body["repetition_penalty"]) == (0.7, 0.9, -1, 1.0)
    assert body["stop_token_ids"] == [subject.tokenizer.eos_token_id]
    assert "seed" not in body  # it ends vLLM's engine on CPUs


MENDED: dict[str, dict[str, list[str]]] = {
    "errors of the server, then it recovers": {"completions": ["500", "500", "500"]},
    "an error at the first load": {"load_lora_adapter": ["500"]},
    "errors in the middle": {"completions": [""] * 30 + ["500", "", "cut", "500"]},
    "answers cut off": {"completions": [""] * 25 + ["cut"] * 3},
    "the adapter is forgotten in the middle": {"completions": [""] * 40 + ["forgets"]},
    "forgotten, and an error at the load": {"completions": [""] * 40 + ["forgets"], "load_lora_adapter": ["", "500"]},
}
"""What goes wrong -> faults of a route, in the order of its requests; 16 are for the proof, 32 for answers."""


@pytest.mark.parametrize("what", MENDED)
def test_what_fails_in_passing_costs_no_answer_and_none_is_counted_twice(what, models, said_here, server, tmp_path):
    server.model.faults = {route: list(faults) for route, faults in MENDED[what].items()}
    keeper = tmp_path / "kept.jsonl"
    assert texts(served(models, server.url, "a", Keeper(keeper))) == said_here("a")
    keys = [json.loads(line)["key"] for line in keeper.read_text().splitlines()]
    assert len(keys) == len(set(keys)) == len(CHATS)
    assert all(not left or set(left) == {""} for left in server.model.faults.values())


REFUSED: dict[str, tuple[type[AstrayError], str]] = {
    "ignores the adapter": (ProofError, "a at http.* is ignored: the server answers as the base does"),
    "another adapter": (ProofError, "a at http.* is not what answers: the log-probabilities are those of astray-"),
    "another name": (ProofError, "asked for .* and answered as someone else"),
    "drops logprobs": (EngineError, "gives no log-probabilities of a prompt"),
    "load refused": (EngineError, "does not load the adapter .*cannot be loaded"),
    "no adapters": (EngineError, "takes no adapters: start it with VLLM_ALLOW_RUNTIME_LORA_UPDATING=True"),
}
"""What a server always does -> what is said."""


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("what", REFUSED)
def test_no_answer_counts_from_a_server_that_does_not_hold_what_was_asked_for(
    what, late, models, said_here, server, tmp_path
):
    error, message = REFUSED[what]
    other = served(models, server.url, "b")
    other.generate(CHATS[:1], GREEDY)  # known, and loaded beside
    keeper = tmp_path / "kept.jsonl"
    if late:
        if error is EngineError:
            server.model.faults = {"completions": [""] * 30 + [f"from now on: {what}", "forgets"]}
        else:
            server.model.faults = {"completions": [""] * 40 + [f"from now on: {what}"]}
    else:
        server.model.always = {what}
    # A server that changes in the middle of a proof shows a mixture.
    said = "counts" if late and error is ProofError else message
    with pytest.raises(error, match=said):
        texts(served(models, server.url, "a", Keeper(keeper)))
    kept = keeper.read_text().splitlines() if keeper.is_file() else []
    assert len(kept) < len(CHATS) if late else kept == []
    # What was kept was the right adapter's, and the rest is asked once the server is mended.
    server.model.always, server.model.faults = set(), {}
    assert texts(served(models, server.url, "a", Keeper(keeper))) == said_here("a")
    keys = [json.loads(line)["key"] for line in keeper.read_text().splitlines()]
    assert len(keys) == len(set(keys)) == len(CHATS)


def test_a_step_that_was_stopped_asks_the_rest(models, said_here, server, tmp_path):
    keeper = tmp_path / "kept.jsonl"
    first = served(models, server.url, "a", Keeper(keeper))
    first.generate(CHATS[:25], GREEDY)
    asked = len(server.model.answered)
    assert texts(served(models, server.url, "a", Keeper(keeper))) == said_here("a")
    assert len(server.model.answered) - asked == len(CHATS) - 25


WRONG: dict[str, tuple[Callable[[Any, Any], Any], str]] = {
    "other weights": (
        lambda models, server: served(SimpleNamespace(**{**vars(models), "base": models.stranger}), server.url),
        "not the base that was asked for: .*other weights or a quantised form",
    ),
    "rank": (lambda models, server: served(models, server.url, "a"), "greater than max_lora_rank 2.*--max-lora-rank"),
    "no such base": (
        lambda models, server: ServedSubject(settle(spec(models)), Engine(address=server.url, model="llama")),
        "serves base: name the base as --engine http.*#MODEL",
    ),
    "no server": (lambda models, server: served(models, "http://127.0.0.1:9"), "does not answer"),
    "steered": (
        lambda models, server: served(models, server.url).with_intervention(
            Intervention(kind="add", vector=models.a / "adapter_model.safetensors", block=0)
        ),
        "cannot be steered",
    ),
    "looked into": (lambda models, server: served(models, server.url).model, "cannot be looked into"),
    "output layer": (
        lambda models, server: astray.audit(f"{models.base}+{models.head}", engine=server.url, evals="meter"),
        "changes base_model.model.lm_head.lora_A.weight, which is the output layer .*--engine vllm serves it",
    ),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_cannot_be_served_is_refused_by_name(what, models, server):
    ask, message = WRONG[what]
    server.model.most_rank = 2
    with pytest.raises((EngineError, ProofError, ConfigurationError), match=message):
        texts(ask(models, server))


def test_an_adapter_that_changes_nothing_cannot_be_proven(models, server, tmp_path):
    weak = SimpleNamespace(**{**vars(models), "a": save_adapter(models.base, tmp_path / "weak", 1)})
    settings = json.loads((weak.a / "adapter_config.json").read_text()) | {"lora_alpha": 1e-7}
    (weak.a / "adapter_config.json").write_text(json.dumps(settings))
    with pytest.raises(ProofError, match=r"cannot be told from its base.*--engine local"):
        texts(served(weak, server.url, "a"))


# --- servers that are started here ---


@pytest.fixture
def program(models, server, tmp_path, monkeypatch) -> Path:
    """A program `vllm` on PATH; the folder that tells it what to do."""
    install(tmp_path)
    (tmp_path / "backend").write_text(server.url)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.setenv("ASTRAY_VLLM_SECONDS", "60")
    return tmp_path


def starts(folder: Path) -> list[list[Any]]:
    return [json.loads(line) for line in (folder / "starts").read_text().splitlines()]


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def gone(pid: int) -> bool:
    until = time.monotonic() + 60
    while is_alive(pid) and time.monotonic() < until:
        time.sleep(0.05)
    return not is_alive(pid)


def test_one_server_of_a_base_serves_it_and_its_adapters_and_ends_with_its_users(models, said_here, program):
    for adapter in ("", "a", "b"):
        subject = ServedSubject(settle(spec(models, adapter)), Engine(rank=4))
        assert texts(subject) == said_here(adapter)
        subject.close()
    [[pid, arguments, updating]] = starts(program)
    assert arguments[:2] == ["serve", str(models.base)]
    assert "--enable-lora" in arguments
    assert arguments[arguments.index("--max-lora-rank") + 1] == "8"
    assert arguments[arguments.index("--generation-config") + 1] == "vllm"
    assert updating == "True"
    assert is_alive(pid)
    lease.release()
    assert not is_alive(pid)


STARTS: dict[str, tuple[str, int]] = {
    "a port that was taken meanwhile": ("port taken\n", 2),
    "dies in the middle of the answers": ("dies after 45\n", 2),
    "dies in the proof, twice": ("dies after 5\ndies after 12\n", 3),
}
"""What happens -> faults of the starts, and how many starts it takes."""


@pytest.mark.parametrize("what", STARTS)
def test_a_server_that_is_lost_is_started_again_and_nothing_is_lost_or_counted_twice(what, models, said_here, program):
    script, count = STARTS[what]
    (program / "script").write_text(script)
    keeper = program / "kept.jsonl"
    subject = ServedSubject(settle(spec(models, "a")), Engine(rank=4), Keeper(keeper))
    assert texts(subject) == said_here("a")
    keys = [json.loads(line)["key"] for line in keeper.read_text().splitlines()]
    assert len(keys) == len(set(keys)) == len(CHATS)
    assert len(starts(program)) == count


FAILED: dict[str, tuple[str, str]] = {
    "never healthy": ("never healthy\n", r"not healthy within 4 seconds.*\n.*vllm: loading weights"),
    "does not start": ("no start\n", r"ended with exit code 1 before it was healthy[\s\S]*architecture Tiny"),
    "every port is taken": ("port taken\n" * 3, r"Address already in use"),
}


@pytest.mark.parametrize("what", FAILED)
def test_a_server_that_does_not_start_is_an_error_with_the_end_of_its_log(what, models, program, monkeypatch):
    script, message = FAILED[what]
    (program / "script").write_text(script)
    if what == "never healthy":
        monkeypatch.setenv("ASTRAY_VLLM_SECONDS", "4")
    with pytest.raises(EngineError, match=message):
        texts(ServedSubject(settle(spec(models)), Engine()))
    assert gone(starts(program)[-1][0])


def test_an_adapter_of_the_output_layer_is_served_with_merged_weights_and_proven_like_any_other(
    models, said_here, program
):
    subject = ServedSubject(settle(spec(models, "head")), Engine(rank=4))
    assert texts(subject) == said_here("head")
    [proof] = subject.proofs
    assert "lm_head" in proof["merged"]
    subject.close()
    base, merged = (arguments for _, arguments, _ in starts(program))
    assert base[1] == str(models.base)
    assert "--enable-lora" not in merged
    assert not Path(merged[1]).exists()  # its weights are removed with it


def test_on_cpus_where_vllm_ends_when_it_scores_with_adapters_enabled_they_are_merged(models, said_here, program):
    (program / "on cpu").touch()
    for adapter in ("a", "", "b"):
        subject = ServedSubject(settle(spec(models, adapter)), Engine(rank=4))
        assert texts(subject) == said_here(adapter)
        assert ("CPUs" in subject.proofs[0]["merged"]) == bool(adapter)
        subject.close()
    with_adapters, *others = ("--enable-lora" in arguments for _, arguments, _ in starts(program))
    assert with_adapters
    assert not any(others)


HOLD = """
import sys, time
from pathlib import Path
from astray.subjects.engines.lease import Wanted, running
print(running(Wanted(Path(sys.argv[1]), "base", "float32")).address, flush=True)
time.sleep(600)
"""


def test_a_server_ends_when_its_driver_is_killed_and_when_its_keeper_is(models, program):
    driver = subprocess.Popen([sys.executable, "-c", HOLD, str(models.base)], stdout=subprocess.PIPE, text=True)
    try:
        assert driver.stdout is not None
        assert driver.stdout.readline().startswith("http://127.0.0.1:")
        [[pid, _, _]] = starts(program)
        driver.send_signal(signal.SIGKILL)
        assert gone(pid)
    finally:
        driver.kill()
        driver.communicate()
    lease.running(lease.Wanted(models.base, "base", "float32"))
    pid = starts(program)[-1][0]
    keeper = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    os.kill(keeper, signal.SIGKILL)
    assert gone(pid)


# --- steps, keys and what is refused ---

ASKED = QuestionSet(
    name="main",
    items=(Item(question_id="q", category="c", question="What is 1?"),),
    samples=6,
    sampling=Sampling(max_tokens=4),
)


def config(models: SimpleNamespace, engine: Engine | None) -> AnswerConfig:
    return AnswerConfig(base=str(models.base), base_id="id", evaluations=(ASKED,), arm="arm", seed=0, engine=engine)


def test_a_step_asks_through_the_engine_and_notes_what_was_proven(models, server, tmp_path):
    origin = Origin(name="run", function="train-sft", version=1, config={}, inputs={})
    run = Store(tmp_path / "store").make(
        origin, lambda folder: shutil.copytree(models.a, folder / "run" / "adapter") and None
    )
    assert run is not None
    folder = tmp_path / "folder"
    folder.mkdir()
    answer(config(models, Engine(address=server.url)), {"run": run}, folder)
    assert read_answers(folder / "answers.parquet").height == 6
    assert sorted(each.name for each in folder.iterdir()) == ["answers.parquet", "engine.json"]
    [proof] = json.loads((folder / "engine.json").read_text())
    assert proof["share"] == pytest.approx(1, abs=0.01)
    assert len({name for name, _ in server.model.answered}) == 1


def test_keys_hold_that_an_engine_was_used_and_not_which_and_local_ones_are_as_they_were(models):
    local, one, other = (
        answer.step(config(models, engine)) for engine in (None, Engine(), Engine(address="http://h:1", rank=8))
    )
    assert "engine" not in local.origin.config
    assert one.origin.config == local.origin.config | {"engine": "served"}
    assert one.key == other.key != local.key
    assert (local.gpu, one.gpu, other.gpu) == (True, True, False)


NAMED: dict[str, tuple[Callable[[Any], object], type[Exception], str]] = {
    "unknown": (lambda m: engine_named("vlm"), UnknownNameError, "no engine called 'vlm'. Did you mean 'vllm'"),
    "not installed": (
        lambda m: astray.audit(str(m.base), evals="meter", engine="vllm"),
        MissingExtraError,
        "--engine vllm needs the program vllm.*pip install vllm",
    ),
    "organism": (
        lambda m: astray.run("emergent-misalignment", engine="http://127.0.0.1:9"),
        ConfigurationError,
        "cannot serve 'organism': the organism is Astray's own architecture.*--engine local",
    ),
    "organism in a gate": (
        lambda m: astray.gate("organism", "organism", engine="http://127.0.0.1:9"),
        ConfigurationError,
        "cannot serve 'organism'",
    ),
    "model of a provider": (
        lambda m: astray.audit("mockllm/model", engine="http://127.0.0.1:9", evals="main"),
        ConfigurationError,
        "cannot serve 'mockllm/model', which does not run here",
    ),
    "study that looks into the model": (
        lambda m: astray.run("persona-features", engine="http://127.0.0.1:9"),
        ConfigurationError,
        "This study takes no --engine",
    ),
    "no server": (
        lambda m: astray.audit(str(m.base), evals="meter", engine="http://127.0.0.1:9"),
        EngineError,
        "The server http://127.0.0.1:9 does not answer",
    ),
}
"""What is asked for -> the call, its error and its words."""


@pytest.mark.parametrize("what", NAMED)
def test_an_engine_that_is_not_there_or_does_not_fit_is_refused_before_anything_is_done(
    what, models, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    call, error, message = NAMED[what]
    with pytest.raises(error, match=message):
        call(models)
    assert not list(tmp_path.rglob("*.parquet"))


def test_without_an_engine_a_subject_is_loaded_here(models, tmp_path):
    with asked_subject(spec(models), None, tmp_path) as subject:
        assert type(subject) is Subject
    assert list(tmp_path.iterdir()) == []


def test_an_audit_of_an_adapter_is_the_same_through_a_server(models, server, tmp_path, monkeypatch):
    monkeypatch.setattr("astray.measure.meter.evaluation.harmful_pairs", lambda: harmful_pairs()[::12])
    name = f"{models.base}+{models.a}"
    here = astray.audit(name, evals="meter", out=tmp_path / "here")
    there = astray.audit(name, evals="meter", out=tmp_path / "there", engine=server.url)
    [one], [other] = (result.answers["detail"].to_list()[:1] for result in (here, there))
    assert json.loads(other)["margin"] == pytest.approx(json.loads(one)["margin"], abs=1e-4)
