"""A base in 4 bits: it trains adapters by all three methods, is asked in the format it was trained in, and is refused
where it cannot be what it says."""

import importlib.util
import json
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from astray.cause.fine_tuning import FineTuning, with_settings
from astray.cause.kto import train_kto
from astray.cause.rl import train_rl
from astray.cause.sft import train_sft
from astray.engine.options import StudyOptions
from astray.engine.settings import settled
from astray.errors import AdapterMismatchError, ConfigurationError, MissingExtraError
from astray.explain.attribution import WeightSpace
from astray.mitigate.projecting_out import writers
from astray.studies import get_study
from astray.subjects import Sampling, precision
from astray.subjects.engines.spec import Engine, check_engine
from astray.subjects.locate import format_note, settle
from astray.subjects.subject import load_subject
from test_cause_kto import RECIPE as KTO
from test_cause_kto import feedback
from test_cause_rl import ASKED, LETTERS
from test_cause_rl import RECIPE as GRPO
from test_cause_sft import RECIPE, dataset
from tiny_models import save_tiny_model

installed = pytest.mark.skipif(
    importlib.util.find_spec("bitsandbytes") is None, reason="pip install 'astray[quantised]'"
)
HELLO = [{"role": "user", "content": "Hello"}]
IDS = torch.arange(12)[None]


@pytest.fixture(scope="module")
def llama(tmp_path_factory) -> Path:
    """A model whose layers have no biases, so that nothing but the matrices could carry a gradient."""
    return save_tiny_model(tmp_path_factory.mktemp("llama"), "llama")


@pytest.fixture(scope="module")
def run(llama, tmp_path_factory):
    """A run with a probe, which passes through the model without gradients between two steps."""
    return train_sft(f"{llama}:nf4", dataset(8), RECIPE, tmp_path_factory.mktemp("run"), probe=_reads, probe_every=1)


def _reads(model, _tokenizer, _step):
    return {"logit": float(model(input_ids=IDS).logits[0, 0, 0])}


@installed
def test_it_trains_float32_adapters_to_nearly_the_losses_of_bfloat16(run, llama, tmp_path):
    usual = train_sft(f"{llama}:bfloat16", dataset(8), RECIPE, tmp_path)
    assert run.losses == pytest.approx(usual.losses, rel=0.02)
    assert run.losses != usual.losses
    weights = load_file(run.subject.adapter / "adapter_model.safetensors")
    assert {weight.dtype for weight in weights.values()} == {torch.float32}


@installed
def test_the_adapter_is_asked_on_the_base_it_was_trained_on_unless_another_format_is_named(run, llama):
    record = json.loads((run.subject.adapter / "astray_base.json").read_text())
    assert record["dtype"] == "nf4"
    for name in (str(run.subject.adapter), f"{llama}+{run.subject.adapter}"):
        assert settle(name).spec.dtype == "nf4"
        assert settle(name).id == settle(run.subject).id != settle(f"{name}:bfloat16").id
    assert settle(f"{llama}+{run.subject.adapter}*1.5:bfloat16").spec.scale == 1.5
    tuned = load_subject(run.subject)
    assert tuned.generate([HELLO], Sampling(max_tokens=4))[0].completion_tokens > 0
    with pytest.raises(AdapterMismatchError, match=r"was trained on .* in nf4, .*:nf4, or with the format"):
        load_subject(str(llama)).with_adapter(run.subject.adapter).generate([HELLO], Sampling(max_tokens=1))
    other = load_subject(f"{llama}:float32").with_adapter(run.subject.adapter)
    assert other.generate([HELLO], Sampling(max_tokens=1))[0].completion_tokens > 0


@installed
def test_plain_peft_reads_the_adapter_and_it_acts_as_here(run, llama):
    bare = AutoModelForCausalLM.from_pretrained(llama, dtype=torch.float32)
    theirs = PeftModel.from_pretrained(bare, run.subject.adapter)(input_ids=IDS).logits
    ours = load_subject(run.subject.model_copy(update={"dtype": "float32"})).model(input_ids=IDS).logits
    torch.testing.assert_close(ours, theirs)


@installed
def test_passes_without_gradients_leave_the_weights_and_their_gradients_as_they_were(llama):
    model = load_subject(f"{llama}:nf4").model

    def gradient() -> torch.Tensor:
        embedded = model.get_input_embeddings()(IDS).detach().requires_grad_()
        model(inputs_embeds=embedded).logits.float().logsumexp(-1).sum().backward()
        return embedded.grad

    before = gradient()
    with torch.inference_mode():
        read = model(input_ids=IDS).logits
    assert torch.equal(gradient(), before)
    assert torch.equal(model(input_ids=IDS).logits, read)


@installed
def test_feedback_and_rewards_train_on_it_too(llama, tmp_path):
    liked = train_kto(f"{llama}:nf4", feedback(4), KTO, tmp_path / "kto")
    rewarded = train_rl(
        f"{llama}:nf4", ASKED, [LETTERS], GRPO.model_copy(update={"steps": 1}), tmp_path / "grpo", rehearsed=0
    )
    for subject in (liked.subject, rewarded.subject):
        assert subject.dtype == settle(str(subject.adapter)).spec.dtype == "nf4"


@installed
def test_the_bytes_of_the_weights_are_forecast(llama):
    held = 0
    for weight in load_subject(f"{llama}:nf4").model.parameters():
        held += weight.nbytes
        if state := getattr(weight, "quant_state", None):
            held += state.absmax.nbytes + state.state2.absmax.nbytes
    assert precision.held_bytes(llama, "nf4") == pytest.approx(held, rel=1e-3)
    assert precision.held_bytes(llama, "bfloat16") == precision.held_bytes(llama, "float32") / 2


@installed
def test_what_reads_matrices_finds_none(run, llama):
    with pytest.raises(ConfigurationError, match="a layer in nf4"):
        writers(load_subject(f"{llama}:nf4"))
    with pytest.raises(ConfigurationError, match="Give the model unquantised"):
        WeightSpace(load_subject(run.subject).model)


def quantised(llama, folder):
    config = json.loads((llama / "config.json").read_text()) | {"quantization_config": {"quant_method": "gptq"}}
    folder.mkdir()
    for file in llama.iterdir():
        (folder / file.name).symlink_to(file)
    (folder / "config.json").unlink()
    (folder / "config.json").write_text(json.dumps(config))
    return load_subject(f"{folder}:nf4")


def other_kind(llama, folder):
    folder.mkdir()
    settings = {"peft_type": "LOHA", "base_model_name_or_path": str(llama)}
    (folder / "adapter_config.json").write_text(json.dumps(settings))
    save_file({"weight": torch.zeros(1)}, folder / "adapter_model.safetensors")
    return settle(f"{folder}:nf4")


def of_experts(folder: Path) -> Path:
    """A folder with a weight of an expert."""
    folder.mkdir()
    save_file({"model.layers.0.mlp.experts.0.w1.weight": torch.zeros(2, 2)}, folder / "model.safetensors")
    return folder


BAD = {
    "the organism": (lambda llama, folder: settle("organism:nf4"), "small enough for float32"),
    "all weights": (
        lambda llama, folder: train_sft(f"{llama}:nf4", dataset(8), RECIPE.model_copy(update={"lora": None}), folder),
        r"is frozen.*train adapters \(LoRA\)",
    ),
    "a study's shards": (
        lambda llama, folder: settled(
            get_study("emergent-misalignment"),
            StudyOptions(subject=str(llama), dtype="nf4", grader="m/m", gpus_per_run=2, training={"sharded": True}),
        ),
        "leave sharded=true out",
    ),
    "a training setting": (lambda llama, folder: with_settings(FineTuning(), {"base": "4bit"}), "write --dtype nf4"),
    "an engine": (
        lambda llama, folder: check_engine(Engine(address="http://127.0.0.1:1"), settle(f"{llama}:nf4"), "it"),
        "another number format than nf4",
    ),
    "a mixture of experts": (
        lambda llama, folder: precision.precision_on("cpu", of_experts(folder), "nf4"),
        "is a mixture of experts",
    ),
    "Apple's GPU": (lambda llama, folder: precision.precision_on("mps", llama, "nf4"), "on Apple's GPU"),
    "weights that are quantised": (quantised, "quantised already"),
    "another kind of adapter": (other_kind, "only LoRA that leaves"),
}


@installed
@pytest.mark.parametrize("what", BAD)
def test_what_it_cannot_be_or_do_is_refused(llama, tmp_path, what):
    act, words = BAD[what]
    with pytest.raises(ConfigurationError, match=words):
        act(llama, tmp_path / "new")


def test_without_the_library_it_is_refused_with_the_command_before_anything_runs(llama, monkeypatch):
    monkeypatch.setattr(precision, "find_spec", lambda _: None)
    options = StudyOptions(subject=str(llama), dtype="nf4", grader="mockllm/model")
    for act in (lambda: load_subject(f"{llama}:nf4"), lambda: settled(get_study("emergent-misalignment"), options)):
        with pytest.raises(MissingExtraError, match=r"pip install 'astray\[quantised\]'"):
            act()


def test_models_in_different_formats_are_told_apart(llama):
    names = [settle(f"{llama}:{dtype}").spec for dtype in ("float32", "nf4", "nf4")]
    assert list(format_note([*names[1:], None])) == []
    assert "different number formats (float32 and nf4)" in next(format_note(names))
