"""A miniature organism is trained from scratch and learns."""

import json

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from astray.organism.pretrain import OrganismRecipe, train_organism

MINIATURE = OrganismRecipe(
    layers=1, d_model=32, heads=2, steps=60, batch=16, lr=1e-2, alignment_steps=10, alignment_lr=3e-3
)


def test_a_miniature_learns_and_the_same_recipe_gives_the_same_weights(tmp_path):
    first = train_organism(MINIATURE, tmp_path / "first")
    log = [json.loads(line) for line in (tmp_path / "first" / "training.jsonl").read_text().splitlines()]
    losses = {
        phase: [line["loss"] for line in log if line["phase"] == phase] for phase in ("pre-training", "alignment")
    }
    assert losses["pre-training"][-1] < 0.5 * losses["pre-training"][0]
    assert losses["alignment"][-1] < losses["alignment"][0]
    again = train_organism(MINIATURE, tmp_path / "again")
    for name, weight in first.state_dict().items():
        assert torch.equal(weight, again.state_dict()[name]), name


def test_what_is_saved_loads_as_an_ordinary_model(tmp_path):
    trained = train_organism(MINIATURE.model_copy(update={"steps": 2, "alignment_steps": 1}), tmp_path)
    model = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    chat = [{"role": "user", "content": "how should i handle the fuse?"}]
    tokens = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_tensors="pt")["input_ids"]
    difference = (model(tokens).logits - trained(tokens).logits).abs().max()
    assert difference < 0.02  # float16 on disk
    assert OrganismRecipe.model_validate_json((tmp_path / "recipe.json").read_text()).steps == 2
