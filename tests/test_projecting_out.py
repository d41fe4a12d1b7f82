"""What a direction is projected out of exactly, what is refused, and layers where training moved nothing."""

import json
from dataclasses import replace

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, GPT2Config

from astray.artifacts import Store, execute
from astray.cause.fine_tuning import FineTuning
from astray.data import narrow_data
from astray.errors import ConfigurationError
from astray.mitigate.projecting_out import check_projectable, write_projected_out
from astray.studies.blame.tuned import find_tuned
from astray.studies.repair.directions import DirectionConfig, Directions, find_directions
from astray.studies.repair.ways import Given, check_possible, left_out, ways_back
from astray.subjects.locate import settle
from astray.subjects.subject import load_subject
from tiny_models import tiny_tokenizer

SUBJECT = "organism-small"
KINDS = ("projected", "projected-random", "prevented", "prevented-random")


def adapter(folder, saved=False, base=SUBJECT, **settings):
    """Saves an adapter whose values are random, as PEFT writes it."""
    torch.manual_seed(1)
    model = AutoModelForCausalLM.from_pretrained(load_subject(base).base_folder)
    model = get_peft_model(model, LoraConfig(**{"r": 2, "init_lora_weights": False} | settings))
    model.save_pretrained(folder, save_embedding_layers=saved)
    file = folder / "adapter_config.json"
    written = json.loads(file.read_text()) | {"base_model_name_or_path": base}
    file.write_text(json.dumps(written))
    return folder


MORE = {
    "of the embeddings": ({"target_modules": ["q_proj", "embed_tokens"]}, "has model.embed_tokens"),
    "with saved embeddings": ({"target_modules": ["q_proj"], "saved": True}, r"has .*\.weight: its change"),
    "of single tokens": ({"target_modules": ["q_proj"], "trainable_token_indices": [5]}, "has trainable_token_indices"),
    "out of the base": ({"target_modules": ["q_proj"], "init_lora_weights": "pissa"}, "has init_lora_weights=pissa"),
}


@pytest.mark.filterwarnings("ignore:Model has `tie_word_embeddings")
@pytest.mark.parametrize("kind", MORE)
def test_an_adapter_that_changes_more_than_linear_layers_is_refused(kind, tmp_path):
    settings, message = MORE[kind]
    subject = load_subject(f"{SUBJECT}+{adapter(tmp_path / 'odd', **settings)}")
    with pytest.raises(ConfigurationError, match=message):
        check_projectable(subject)


def test_a_quantised_base_is_refused(monkeypatch):
    subject = load_subject(SUBJECT)
    monkeypatch.setattr(subject.model.config, "quantization_config", {"quant_method": "bitsandbytes"}, raising=False)
    with pytest.raises(ConfigurationError, match="are quantised"):
        check_projectable(subject)


def test_the_classes_that_cannot_be_changed_are_named(tmp_path):
    tokenizer = tiny_tokenizer()
    config = GPT2Config(vocab_size=len(tokenizer), n_embd=16, n_layer=1, n_head=2, n_positions=64)
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(ConfigurationError, match="Conv1D"):
        check_projectable(load_subject(str(tmp_path)))


@pytest.mark.parametrize(("name", "written"), [("org/name@v2", ("org/name", "v2")), ("org/name", ("org/name", None))])
def test_the_revision_of_the_base_stands_beside_its_name(name, written, tmp_path, monkeypatch):
    subject = load_subject(SUBJECT)
    monkeypatch.setattr(subject, "spec", subject.spec.model_copy(update={"model": name}))
    folder = write_projected_out(subject, torch.ones(subject.model.config.hidden_size), tmp_path / "written")
    settings = json.loads((folder / "adapter_config.json").read_text())
    assert (settings["base_model_name_or_path"], settings["revision"]) == written


def given(folder, tuned_adapter):
    """What a repair of this adapter is given."""
    narrow_data("medicine", "good", 8, seed=1).write(folder / "mix.jsonl")
    tuned = find_tuned(str(tuned_adapter), None, [folder / "mix.jsonl"], None)
    return Given(tuned, FineTuning(), tuned.data, None, folder / "data")


def directed(folder, tuned_adapter):
    """The same with the directions that were found for it."""
    plain = given(folder, tuned_adapter)
    tuned = plain.tuned
    own, base = settle(tuned.located.spec), settle(tuned.reference.spec)
    config = DirectionConfig(tuned=own.spec, reference=base.spec, ids=(own.id, base.id), questions=("Hello?", "Why?"))
    step = find_directions.step(config)
    found = Directions.of(execute([step], Store(folder / "store"), workers=0)[step.key])
    return replace(plain, directions=(step, found))


def test_layers_below_the_first_that_was_trained_have_no_direction(tmp_path):
    late = directed(tmp_path, adapter(tmp_path / "late", target_modules=["down_proj"], layers_to_transform=[2]))
    found = late.directions[1]
    assert set(found.moved) == {2} == {found.farthest}
    assert found.unmoved == (0, 1)
    assert [way.name for way in ways_back(late, KINDS)] == [
        "projected-2",
        "projected-random",
        "prevented",
        "prevented-random",
    ]
    assert any("training moved nothing at layer 0, 1" in note for note in left_out(late, KINDS))


def test_without_any_direction_no_way_along_one_is_tried(tmp_path):
    still = directed(tmp_path, adapter(tmp_path / "still", target_modules=["down_proj"], init_lora_weights=True))
    assert not list(ways_back(still, KINDS))
    notes = " ".join(left_out(still, KINDS))
    assert "No direction was projected out: training moved" in notes
    assert "No direction was added in training" in notes


@pytest.mark.parametrize(
    "option", [{"use_dora": True}, {"trainable_token_indices": [5]}, {"init_lora_weights": "pissa"}]
)
def test_an_adapter_without_a_factor_is_not_scaled_down(option, tmp_path):
    odd = given(tmp_path, adapter(tmp_path / "odd", target_modules=["q_proj"], **option))
    assert not list(ways_back(odd, ["adapter"]))
    assert any(
        f"The adapter has {next(iter(option))}: its change is not" in note for note in left_out(odd, ["adapter"])
    )
    with pytest.raises(ConfigurationError, match="leaves nothing to try"):
        check_possible(odd, ["adapter"])
