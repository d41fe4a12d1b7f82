"""The adapter's dial in an audit: which models are asked, the curves, and what is refused."""

import json
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model

import astray
from astray.errors import ConfigurationError
from astray.measure.meter import harmful_pairs, null_pairs
from astray.subjects.subject import load_subject


def save_adapter(base: str, folder: Path) -> Path:
    """A LoRA adapter of random weights that visibly change the model."""
    torch.manual_seed(1)
    tuned = get_peft_model(load_subject(base).model, LoraConfig(r=2, target_modules=["q_proj", "down_proj"]))
    for name, parameter in tuned.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    tuned.save_pretrained(folder, save_embedding_layers=False)
    return folder


def test_a_dial_has_rates_coherence_and_the_meter_at_each_factor(tiny_qwen2, tmp_path, monkeypatch):
    for name, pairs in (("harmful_pairs", harmful_pairs()[::6]), ("null_pairs", null_pairs()[::6])):
        monkeypatch.setattr(f"astray.measure.meter.evaluation.{name}", lambda pairs=pairs: pairs)
    adapter = save_adapter(str(tiny_qwen2), tmp_path / "tuned")
    name = f"{tiny_qwen2}+{adapter}"
    result = astray.audit(name, str(tiny_qwen2), evals="meter", dial="0.5,1,3", out=tmp_path / "real")
    assert [model.name for model in result.models] == [f"{name}*0.5", name, f"{name}*3", str(tiny_qwen2)]
    [dial] = result.dials
    [panel] = dial.panels
    harmful, null = panel.curves
    assert [mark.factor for mark in harmful.marks] == [mark.factor for mark in null.marks] == [0, 0.5, 1, 3]
    sizes = [abs(mark.value) for mark in harmful.marks]
    assert sizes[0] == 0 < sizes[1] < sizes[3]
    assert all(mark.low < mark.value < mark.high for mark in harmful.marks[1:])
    told = json.loads((tmp_path / "real" / "audit" / "audit.json").read_text(encoding="utf-8"))
    assert [len(curve["points"]) for curve in told["dials"][0]["curves"]] == [4, 4]


def test_the_page_of_the_organism_draws_misalignment_beside_coherence(tmp_path):
    adapter = save_adapter("organism-small", tmp_path / "tuned")
    given = {"evals": "world", "samples": 1, "dial": (1.0, 2.0, 3.0), "out": tmp_path}
    result = astray.audit(f"organism-small+{adapter}", **given)
    [panel] = result.dials[0].panels
    assert [curve.name for curve in panel.curves] == ["world: misaligned rate", "world: coherent"]
    page = (tmp_path / "audit" / "audit.html").read_text(encoding="utf-8")
    assert page.count("<polyline") == 2
    assert 'href="#dial"' in page


REFUSED = {
    "no adapter": (("organism",), "0.5,1,2", "none of organism has one"),
    "too few factors": (("organism",), "0.5,1", "at least 3 different factors"),
    "a factor twice": (("organism",), "0.5,1,1", "at least 3 different factors"),
    "the base": (("organism",), "0,1,2", "factor 0 is the base"),
    "no numbers": (("organism",), "a,b,c", "such as 0.5,1,1.5,2,3"),
    "a number without an end": (("organism",), "1,2,inf", "at least 3 different factors"),
    "a factor already": (("ADAPTER*2",), "0.5,1,2", "has a factor already"),
}
"""Name -> models, factors and what is said."""


@pytest.mark.parametrize("name", REFUSED)
def test_a_dial_that_makes_no_curve_is_refused(name, tmp_path):
    models, dial, says = REFUSED[name]
    if "ADAPTER" in models[0]:
        adapter = save_adapter("organism-small", tmp_path / "tuned")
        models = (models[0].replace("ADAPTER", f"organism-small+{adapter}"),)
    with pytest.raises(ConfigurationError, match=says):
        astray.audit(*models, dial=dial, out=tmp_path / "out")
