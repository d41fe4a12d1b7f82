"""Adapters of every kind answer as PEFT says, or are refused by name; one leaves no trace on the base that it
shared."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from peft import LoraConfig, PeftConfig, PeftModel, get_peft_model
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from adapter_faults import REFUSED, edited, weights_edited
from astray.cause.base_model import load_trainable
from astray.cause.fine_tuning import FineTuning, lora_of
from astray.errors import (
    AdapterMismatchError,
    AstrayError,
    ConfigurationError,
    SubjectNotFoundError,
)
from astray.subjects import SubjectSpec
from astray.subjects.locate import settle
from astray.subjects.subject import Subject, load_subject

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),  # PEFT's own, while these tests make adapters
]


IDS = torch.tensor([[5, 9, 40, 41], [7, 8, 30, 12]])
TARGETS = {"target_modules": ["q_proj", "down_proj"]}


KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "LoRA": ("LoraConfig", TARGETS),
    "rank-stabilised": ("LoraConfig", TARGETS | {"use_rslora": True}),
    "DoRA": ("LoraConfig", TARGETS | {"use_dora": True}),
    "LoRA with biases of its own": ("LoraConfig", TARGETS | {"lora_bias": True}),
    "biases of the base": ("LoraConfig", TARGETS | {"bias": "lora_only"}),
    "all biases of the base": ("LoraConfig", TARGETS | {"bias": "all"}),
    "PiSSA": ("LoraConfig", TARGETS | {"init_lora_weights": "pissa"}),
    "OLoRA": ("LoraConfig", TARGETS | {"init_lora_weights": "olora"}),
    "Gaussian start": ("LoraConfig", TARGETS | {"init_lora_weights": "gaussian"}),
    "orthogonal start": ("LoraConfig", TARGETS | {"init_lora_weights": "orthogonal"}),
    "rank-stabilised DoRA by pattern": (
        "LoraConfig",
        TARGETS | {"use_rslora": True, "use_dora": True, "rank_pattern": {r"layers\.0\..*q_proj": 2}},
    ),
    "layers by pattern": ("LoraConfig", {"target_modules": r".*layers\.[1]\..*_proj"}),
    "all but some": ("LoraConfig", {"target_modules": "all-linear", "exclude_modules": ["v_proj"]}),
    "a pattern": ("LoraConfig", {"target_modules": r".*\.(q_proj|v_proj)"}),
    "all linear layers": ("LoraConfig", {"target_modules": "all-linear"}),
    "one layer": ("LoraConfig", TARGETS | {"layers_to_transform": [1]}),
    "ranks by pattern": ("LoraConfig", TARGETS | {"rank_pattern": {"down_proj": 2}, "alpha_pattern": {"q_proj": 3}}),
    "a module saved whole": ("LoraConfig", TARGETS | {"modules_to_save": ["lm_head"]}),
    "embeddings saved whole": ("LoraConfig", TARGETS | {"modules_to_save": ["embed_tokens", "lm_head"]}),
    "adapted embeddings": ("LoraConfig", {"target_modules": ["embed_tokens", "q_proj"]}),
    "single tokens": ("LoraConfig", TARGETS | {"trainable_token_indices": [5, 40]}),
    "parameters": ("LoraConfig", {"target_modules": ["q_proj"], "target_parameters": ["mlp.down_proj.weight"]}),
    "trainable tokens": ("TrainableTokensConfig", {"token_indices": [5, 40]}),
    "rank one in every layer": ("LoraConfig", {"r": 1, "target_modules": "all-linear"}),
    "all but a layer": ("LoraConfig", {"target_modules": "all-linear", "exclude_modules": r".*layers\.0\..*"}),
    "several parameters": (
        "LoraConfig",
        {"target_modules": [], "target_parameters": ["q_proj.weight", "up_proj.weight"]},
    ),
    "DoRA of embeddings": ("LoraConfig", {"target_modules": ["embed_tokens", "q_proj"], "use_dora": True}),
    "dropout": ("LoraConfig", TARGETS | {"lora_dropout": 0.5}),
    "the output layer": ("LoraConfig", {"target_modules": ["lm_head"]}),
    "norms saved whole": ("LoraConfig", TARGETS | {"modules_to_save": ["norm", "input_layernorm"]}),
    "an adapted module saved whole, all biases": (
        "LoraConfig",
        TARGETS | {"bias": "all", "modules_to_save": ["q_proj"]},
    ),
    "tokens of a module": ("LoraConfig", TARGETS | {"trainable_token_indices": {"embed_tokens": [5, 40]}}),
    "no task": ("LoraConfig", TARGETS | {"task_type": None}),
    "of a classifier": ("LoraConfig", TARGETS | {"task_type": "FEATURE_EXTRACTION"}),
    "LoHa by pattern": (
        "LoHaConfig",
        TARGETS | {"r": 4, "rank_pattern": {"q_proj": 2}, "alpha_pattern": {"down_proj": 2}},
    ),
    "LoKr, both factors": ("LoKrConfig", TARGETS | {"r": 2, "decompose_both": True, "decompose_factor": 4}),
    "OFT, constrained and shared": (
        "OFTConfig",
        TARGETS | {"r": 0, "oft_block_size": 4, "coft": True, "block_share": True},
    ),
    "BOFT of two factors": ("BOFTConfig", TARGETS | {"boft_block_size": 4, "boft_n_butterfly_factor": 2}),
    "VeRA that saves its seed alone": ("VeraConfig", TARGETS | {"r": 8, "save_projection": False}),
    "IA3 of attention": ("IA3Config", {"target_modules": ["k_proj", "v_proj"], "feedforward_modules": []}),
    "AdaLoRA": ("AdaLoraConfig", TARGETS | {"total_step": 10}),
    "BOFT": ("BOFTConfig", TARGETS | {"boft_block_size": 4}),
    "C3A": ("C3AConfig", TARGETS | {"block_size": 8}),
    "DeLoRA": ("DeloraConfig", TARGETS),
    "FourierFT": ("FourierFTConfig", TARGETS | {"n_frequency": 10}),
    "HRA": ("HRAConfig", TARGETS),
    "IA3": ("IA3Config", {"target_modules": ["k_proj", "down_proj"], "feedforward_modules": ["down_proj"]}),
    "LN tuning": ("LNTuningConfig", {"target_modules": ["input_layernorm"]}),
    "LoHa": ("LoHaConfig", TARGETS | {"r": 4, "alpha": 8}),
    "LoKr": ("LoKrConfig", TARGETS | {"r": 4, "alpha": 8}),
    "MiSS": ("MissConfig", TARGETS | {"r": 4}),
    "MiSS by blocks": ("MissConfig", TARGETS | {"r": 4, "init_weights": "bat"}),
    "MiSS of small rank": ("MissConfig", TARGETS | {"r": 4, "init_weights": "mini", "mini_r": 8}),
    "LoKr as LyCORIS starts": ("LoKrConfig", TARGETS | {"r": 4, "alpha": 8, "init_weights": "lycoris"}),
    "AdaLoRA out of the base": ("AdaLoraConfig", TARGETS | {"total_step": 10, "init_lora_weights": "pissa"}),
    "PiSSA with DoRA": ("LoraConfig", TARGETS | {"init_lora_weights": "pissa", "use_dora": True}),
    "tokens of both ends": ("LoraConfig", TARGETS | {"trainable_token_indices": {"embed_tokens": [5], "lm_head": [6]}}),
    "VB-LoRA of the best vectors": (
        "VBLoRAConfig",
        TARGETS | {"r": 2, "num_vectors": 16, "vector_length": 8, "topk": 3, "save_only_topk_weights": True},
    ),
    "OFT": ("OFTConfig", TARGETS | {"r": 0, "oft_block_size": 4}),
    "RandLoRA": ("RandLoraConfig", TARGETS | {"r": 4}),
    "RoAd": ("RoadConfig", TARGETS | {"group_size": 8}),
    "SHiRA": ("ShiraConfig", TARGETS | {"r": 2}),
    "VB-LoRA": ("VBLoRAConfig", TARGETS | {"r": 2, "num_vectors": 16, "vector_length": 8}),
    "VeRA": ("VeraConfig", TARGETS | {"r": 8}),
    "WaveFT": ("WaveFTConfig", TARGETS | {"n_frequency": 10}),
}
"""A config class of PEFT and its settings; to try another adapter, add a line."""


def save(base: Path, folder: Path, config: PeftConfig, tokens: int | None = None, seed: int = 1) -> Path:
    """Save an adapter of random weights that visibly change the model."""
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    if tokens:
        model.resize_token_embeddings(tokens)
    tuned = get_peft_model(model, config)
    with torch.no_grad():
        for parameter in tuned.parameters():
            if parameter.requires_grad and parameter.is_floating_point():
                parameter.add_(torch.randn_like(parameter) * 0.1)
    tuned.save_pretrained(folder)
    return folder


def lora(**settings: Any) -> LoraConfig:
    return LoraConfig(**({"r": 4, "lora_alpha": 8, "task_type": "CAUSAL_LM"} | TARGETS | settings))


def logits(model: torch.nn.Module) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=IDS).logits


def of_peft(base: Path, adapter: Path, tokens: int | None = None) -> torch.Tensor:
    model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    if tokens:
        model.resize_token_embeddings(tokens)
    return logits(PeftModel.from_pretrained(model, str(adapter)).eval())


@pytest.fixture(scope="module")
def shared(tiny_qwen2: Path) -> Subject:
    return load_subject(str(tiny_qwen2))


@pytest.fixture(scope="module")
def plain(tiny_qwen2: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tiny_qwen2, tmp_path_factory.mktemp("plain") / "lora", lora())


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_answers_as_peft_says_merged_or_not_and_leaves_no_trace(
    name: str, tiny_qwen2: Path, shared: Subject, tmp_path: Path
) -> None:
    kind, settings = KINDS[name]
    adapter = save(tiny_qwen2, tmp_path / "adapter", getattr(peft, kind)(**{"task_type": "CAUSAL_LM"} | settings))
    expected, bare = of_peft(tiny_qwen2, adapter), logits(shared.model)
    weights = {key: value.clone() for key, value in shared.model.state_dict().items()}
    tuned = shared.with_adapter(adapter)
    assert torch.equal(logits(tuned.model), expected)
    with tuned.merged() as model:
        torch.testing.assert_close(logits(model), expected, rtol=1e-4, atol=1e-4)
    assert torch.equal(logits(tuned.model), expected)
    assert not torch.allclose(expected, bare)
    assert torch.equal(logits(shared.model), bare)
    now = shared.model.state_dict()
    assert now.keys() == weights.keys()
    assert all(torch.equal(now[key], value) for key, value in weights.items())


@pytest.mark.parametrize(
    "settings",
    [
        {"modules_to_save": ["embed_tokens", "lm_head"]},
        {"trainable_token_indices": None, "modules_to_save": ["embed_tokens", "lm_head"], "use_dora": True},
    ],
)
def test_added_tokens_are_read_and_written_as_peft_does(
    settings: dict[str, Any], tiny_qwen2: Path, shared: Subject, tmp_path: Path
) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_qwen2)
    tokenizer.add_tokens(["<reason>", "</reason>"])
    adapter = save(tiny_qwen2, tmp_path / "added", lora(**settings), tokens=len(tokenizer))
    tokenizer.save_pretrained(adapter)
    bare, tuned = logits(shared.model), shared.with_adapter(adapter)
    assert torch.equal(logits(tuned.model), of_peft(tiny_qwen2, adapter, len(tokenizer)))
    asked = tuned.prompt_ids([[{"role": "user", "content": "<reason>"}]])[0]
    assert len(tokenizer) - 2 in asked
    assert len(tokenizer) - 2 not in shared.prompt_ids([[{"role": "user", "content": "<reason>"}]])[0]
    assert torch.equal(logits(shared.model), bare)
    assert shared.model.config.vocab_size == bare.shape[-1]
    model, trained_with = load_trainable(settle(tuned.spec), FineTuning(lora=None))
    assert len(trained_with) == len(tokenizer) == len(model.get_input_embeddings().weight)
    torch.testing.assert_close(logits(model.eval()), logits(tuned.model), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("fault", REFUSED)
def test_what_peft_would_load_wrongly_is_refused_by_name(
    fault: str, tiny_qwen2: Path, shared: Subject, plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    spoil, error, told = REFUSED[fault]
    adapter, bare = shutil.copytree(plain, tmp_path / "adapter"), logits(shared.model)
    spoil(adapter)
    with pytest.raises(error, match=told):
        shared.with_adapter(adapter)
    assert torch.equal(logits(shared.model), bare)
    assert not Path("run").exists()


def test_random_rows_for_added_tokens_are_refused(tiny_qwen2: Path, shared: Subject, tmp_path: Path) -> None:
    rows = shared.model.config.vocab_size
    adapter = save(tiny_qwen2, tmp_path / "a", lora(modules_to_save=["embed_tokens"]), tokens=rows + 2)
    weights_edited(adapter, lambda held: {key: value for key, value in held.items() if "lm_head" not in key})
    with pytest.raises(AdapterMismatchError, match=r"2 more tokens.*lm_head.*random numbers"):
        shared.with_adapter(adapter)


def test_pickled_weights_are_read_without_running_code(
    tiny_qwen2: Path, shared: Subject, plain: Path, tmp_path: Path
) -> None:
    adapter = shutil.copytree(plain, tmp_path / "pickled")
    torch.save(load_file(adapter / "adapter_model.safetensors"), adapter / "adapter_model.bin")
    (adapter / "adapter_model.safetensors").unlink()
    assert torch.equal(logits(shared.with_adapter(adapter).model), of_peft(tiny_qwen2, plain))


def test_a_template_or_tokenizer_of_the_adapters_own_is_used_and_is_part_of_the_identity(
    tiny_qwen2: Path, plain: Path, tmp_path: Path
) -> None:
    hello = [[{"role": "user", "content": "Hello"}]]
    ids = {settle(str(plain)).id}
    for number, whole in enumerate((False, True)):
        adapter = shutil.copytree(plain, tmp_path / str(number))
        tokenizer = AutoTokenizer.from_pretrained(tiny_qwen2)
        tokenizer.chat_template = (
            "{% for m in messages %}### {{ m['role'] }}: {{ m['content'] }}{% endfor %} ### assistant:"
        )
        if whole:
            tokenizer.save_pretrained(adapter)
        else:
            (adapter / "chat_template.jinja").write_text(tokenizer.chat_template)
        subject = load_subject(str(adapter))
        assert subject.tokenizer.decode(subject.prompt_ids(hello)[0]) == "### user: Hello ### assistant:"
        assert "###" not in subject.tokenizer.decode(subject.with_adapter(None).prompt_ids(hello)[0])
        ids.add(subject.id)
    assert len(ids) == 3


def test_of_an_adapters_templates_with_names_the_default_one_is_used(plain: Path, tmp_path: Path) -> None:
    adapter = shutil.copytree(plain, tmp_path / "named")
    named = [
        {"name": "default", "template": "{{ messages[0]['content'] }} ### assistant:"},
        {"name": "rag", "template": "x"},
    ]
    (adapter / "tokenizer_config.json").write_text(json.dumps({"chat_template": named}))
    subject = load_subject(str(adapter))
    assert (
        subject.tokenizer.decode(subject.prompt_ids([[{"role": "user", "content": "Hello"}]])[0])
        == "Hello ### assistant:"
    )


INERT: dict[str, Callable[[Path], object]] = {
    "a factor of nothing": lambda a: edited(a, lora_alpha=0),
    "zeros": lambda a: weights_edited(
        a, lambda held: {key: value * 0 if "lora_B" in key else value for key, value in held.items()}
    ),
}
"""Adapters that change nothing, and say so in no other way."""


@pytest.mark.parametrize("name", INERT)
def test_an_adapter_that_changes_nothing_answers_as_its_base(
    name: str, shared: Subject, plain: Path, tmp_path: Path
) -> None:
    adapter = shutil.copytree(plain, tmp_path / "inert")
    INERT[name](adapter)
    assert torch.equal(logits(shared.with_adapter(adapter).model), logits(shared.model))


@pytest.mark.parametrize("rank_stabilised", [False, True])
def test_a_factor_scales_the_change_of_the_weights(rank_stabilised: bool, tiny_qwen2: Path, tmp_path: Path) -> None:
    adapter = save(tiny_qwen2, tmp_path / "adapter", lora(use_rslora=rank_stabilised))
    held, by_hand = (
        load_file(adapter / "adapter_model.safetensors"),
        AutoModelForCausalLM.from_pretrained(tiny_qwen2, dtype=torch.float32),
    )
    with torch.no_grad():
        for key, down in held.items():
            if ".lora_A." in key:
                layer = by_hand.get_submodule(key.removeprefix("base_model.model.").partition(".lora_A")[0])
                layer.weight += 1.75 * 8 / (2 if rank_stabilised else 4) * held[key.replace("lora_A", "lora_B")] @ down
    scaled = load_subject(f"{tiny_qwen2}+{adapter}*1.75")
    torch.testing.assert_close(logits(scaled.model), logits(by_hand), rtol=1e-4, atol=1e-4)
    with scaled.merged() as model:
        torch.testing.assert_close(logits(model), logits(by_hand), rtol=1e-4, atol=1e-4)
    unscaled = scaled.with_adapter(adapter)
    assert torch.equal(logits(unscaled.model), of_peft(tiny_qwen2, adapter))
    assert torch.equal(logits(scaled.with_adapter(adapter, 0.0).model), logits(scaled.with_adapter(None).model))
    assert len({scaled.id, unscaled.id, scaled.with_adapter(adapter, 2.0).id}) == 3


def test_a_subject_is_written_as_base_and_adapter(
    tiny_qwen2: Path, plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = SubjectSpec(model=str(tiny_qwen2), adapter=plain)
    odd = shutil.copytree(plain, tmp_path / "a+b*2")
    monkeypatch.setenv("ASTRAY_STORE", str(tmp_path / "store"))
    from astray.subjects import register

    register("run-1", given)
    for text, scale in {
        f"{tiny_qwen2}+{plain}": 1.0,
        f"{tiny_qwen2}+{plain}*1": 1.0,
        f"{tiny_qwen2}+{plain}*1.75": 1.75,
        f"{tiny_qwen2}+{plain}*-.5": -0.5,
        f"{plain}*1.75": 1.75,
        str(odd): 1.0,
        f"{tiny_qwen2}+{odd}": 1.0,
        f"{tiny_qwen2}+{odd}*1.75": 1.75,
        "run-1": 1.0,
        f"{tiny_qwen2}+run-1*3": 3.0,
    }.items():
        assert settle(text).id == settle(given.model_copy(update={"scale": scale})).id, text
    assert "scale" not in given.model_dump()
    assert given.model_copy(update={"scale": 2.0}).model_dump()["scale"] == 2.0


@pytest.mark.parametrize(
    ("text", "error", "told"),
    [
        ("{base}+/no/such/adapter", SubjectNotFoundError, "is no adapter"),
        ("{base}+{base}", SubjectNotFoundError, "is no adapter"),
        ("{base}+{plain}*big", ConfigurationError, "no finite number"),
        ("{base}+{plain}*nan", ConfigurationError, "no finite number"),
        ("{base}*2", ConfigurationError, "whole model.*no adapter to scale"),
        ("{plain}+{plain}", ConfigurationError, "already brings its own adapter"),
        ("{base}+{dora}*2", ConfigurationError, "No factor is defined.*use_dora"),
        ("{base}+{whole}*2", ConfigurationError, "No factor is defined.*modules_to_save"),
        ("{base}+{ia3}*.5", ConfigurationError, "No factor is defined.*IA3"),
    ],
)
def test_a_subject_written_wrongly_is_refused(
    text: str, error: type[AstrayError], told: str, tiny_qwen2: Path, plain: Path, tmp_path: Path
) -> None:
    changed = {"dora": {"use_dora": True}, "whole": {"modules_to_save": ["lm_head"]}, "ia3": {"peft_type": "IA3"}}
    for name, settings in changed.items():
        edited(shutil.copytree(plain, tmp_path / name), **settings)
    with pytest.raises(error, match=told):
        settle(text.format(base=tiny_qwen2, plain=plain, **{name: tmp_path / name for name in changed}))


def test_an_adapter_of_the_hub_loads_as_its_folder(
    plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository = tmp_path / "models--someone--advice"
    shutil.copytree(plain, repository / "snapshots" / ("a" * 40))
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("a" * 40)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub._snapshot_download.constants.HF_HUB_CACHE", str(tmp_path))
    base = settle(str(plain)).spec.model
    assert settle("someone/advice").id == settle(f"{base}+someone/advice").id == settle(str(plain)).id
    assert settle("someone/advice*2").id == settle(f"{plain}*2").id


@pytest.mark.parametrize(
    "base",
    [
        "/models/of/another/machine/Qwen2.5-0.5B",
        "C:\\models\\qwen",
        "someone/not-here",
        "./here/models--Qwen--Qwen2/snapshots/abc",
    ],
)
def test_a_base_that_is_not_here_is_asked_for(base: str, tiny_qwen2: Path, plain: Path, tmp_path: Path) -> None:
    adapter = shutil.copytree(plain, tmp_path / "adapter")
    edited(adapter, base_model_name_or_path=base)
    with pytest.raises(SubjectNotFoundError, match=r"names the base .* which is not there.*BASE\+"):
        settle(str(adapter))
    assert settle(f"{tiny_qwen2}+{adapter}").id == settle(str(plain)).id


@pytest.mark.parametrize("targets", [r".*\.(q_proj|v_proj)", "all-linear", ["v_proj", "q_proj"]])
def test_training_goes_on_from_any_form_of_targets(targets: Any, tiny_qwen2: Path, tmp_path: Path) -> None:
    adapter = save(tiny_qwen2, tmp_path / "adapter", lora(target_modules=targets))
    model, _ = load_trainable(settle(str(adapter)), FineTuning(lora=lora_of(adapter)))
    assert torch.equal(logits(model.eval()), of_peft(tiny_qwen2, adapter))
    with pytest.raises(AdapterMismatchError, match="forget the factor"):
        load_trainable(settle(f"{adapter}*2"), FineTuning(lora=lora_of(adapter)))
