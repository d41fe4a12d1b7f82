"""Checkpoints that lack weights, hold others or need code of their own are refused by name; numbers that are none are
never sampled or counted."""

import io
import json
import math
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from astray.cause.base_model import load_trainable
from astray.cause.fine_tuning import FineTuning
from astray.data.chat import Message
from astray.errors import NonFiniteError, SubjectNotFoundError, WeightsMismatchError
from astray.measure.choice import choice_items, misaligned_probability
from astray.stats.detection import auroc, average_precision
from astray.subjects.base import Base
from astray.subjects.locate import settle
from astray.subjects.spec import Sampling
from astray.subjects.subject import load_subject
from tiny_models import save_tiny_model

Weights = dict[str, torch.Tensor]


def lose(weights: Weights) -> None:
    del weights["model.layers.0.self_attn.q_proj.weight"]


def rename(weights: Weights) -> None:
    weights["transformer.h.0.mlp.up_proj.weight"] = weights.pop("model.layers.0.mlp.up_proj.weight")


def add(weights: Weights) -> None:
    weights["model.layers.9.mlp.up_proj.weight"] = weights["model.layers.0.mlp.up_proj.weight"].clone()


def reshape(weights: Weights) -> None:
    weights["model.layers.0.mlp.down_proj.weight"] = weights["model.layers.0.mlp.down_proj.weight"][:, :-1].contiguous()


def wrap(weights: Weights) -> None:
    for name in list(weights):
        weights[f"module.{name}"] = weights.pop(name)


CHANGES: dict[str, tuple[Callable[[Weights], None], str]] = {
    "a weight is missing": (lose, r"1 missing: model\.layers\.0\.self_attn\.q_proj\.weight"),
    "a weight has another name": (
        rename,
        r"1 missing: model\.layers\.0\.mlp\.up_proj\.weight; 1 unexpected: transformer\.h",
    ),
    "a weight is left over": (add, r"1 unexpected: model\.layers\.9\.mlp\.up_proj\.weight"),
    "a weight has another shape": (
        reshape,
        r"1 of another shape: model\.layers\.0\.mlp\.down_proj\.weight is \(.*\) and should be \(",
    ),
    "every name has a prefix": (wrap, r"missing: .* and \d+ more; \d+ unexpected: "),
}


def changed(model: Path, change: Callable[[Weights], None], to: Path) -> Path:
    shutil.copytree(model, to)
    weights = load_file(to / "model.safetensors")
    change(weights)
    save_file(weights, to / "model.safetensors", metadata={"format": "pt"})
    return to


@pytest.mark.parametrize("what", CHANGES)
def test_a_checkpoint_with_other_weights_is_refused_by_name(tiny_qwen2: Path, tmp_path: Path, what: str) -> None:
    change, told = CHANGES[what]
    folder = changed(tiny_qwen2, change, tmp_path / "model")
    with pytest.raises(WeightsMismatchError, match=told):
        load_subject(str(folder))
    with pytest.raises(WeightsMismatchError, match=told):
        load_trainable(settle(str(folder)), FineTuning())
    with pytest.raises(WeightsMismatchError, match=told):  # as studies look before they train: no weights are read
        Base(str(folder), folder, torch.device("meta"))


@pytest.mark.parametrize("architecture", ["qwen2", "llama"])
def test_whole_checkpoints_load_also_without_reading_weights(tmp_path: Path, architecture: str) -> None:
    folder = save_tiny_model(tmp_path / architecture, architecture)
    assert load_subject(str(folder)).id == settle(str(folder)).id
    assert Base("whole", folder, torch.device("meta")).model.device.type == "meta"


def nan_everywhere(weights: Weights) -> None:
    weights["model.norm.weight"][:] = float("nan")


def one_nan(weights: Weights) -> None:
    weights["model.layers.1.mlp.up_proj.weight"][3, 5] = float("nan")


def overflowing(weights: Weights) -> None:
    weights["model.norm.weight"][:] = float("inf")


@pytest.mark.parametrize(
    ("change", "weight"), [(nan_everywhere, "model.norm"), (one_nan, "up_proj"), (overflowing, "model.norm")]
)
def test_logits_that_are_no_numbers_are_never_sampled_or_counted(
    tiny_qwen2: Path, tmp_path: Path, change: Callable[[Weights], None], weight: str
) -> None:
    subject = load_subject(str(changed(tiny_qwen2, change, tmp_path / "model")))
    chat: list[Message] = [{"role": "user", "content": "hello"}]
    for temperature in (0.0, 1.0):
        with pytest.raises(NonFiniteError, match=f"not finite at token 1 of an answer.*{weight}"):
            subject.generate([chat], Sampling(temperature=temperature, max_tokens=4))
    with pytest.raises(NonFiniteError, match=f"continuation.*{weight}"):
        subject.continuation_logprobs([chat], [["a", "b"]])
    with pytest.raises(NonFiniteError, match=weight):
        misaligned_probability(subject, choice_items())


@pytest.mark.parametrize("wrong", [math.nan, math.inf, -math.inf])
def test_scores_that_are_no_numbers_have_no_area_under_a_curve(wrong: float) -> None:
    scores, positive = np.array([0.1, wrong, 0.3]), np.array([True, False, True])
    for statistic in (auroc, average_precision):
        with pytest.raises(NonFiniteError, match="first that of row 1"):
            statistic(scores, positive)


def test_a_model_with_code_of_its_own_is_refused_without_a_question(
    tiny_qwen2: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(tiny_qwen2, folder)
    config = json.loads((folder / "config.json").read_text()) | {
        "model_type": "own",
        "auto_map": {"AutoConfig": "own.OwnConfig", "AutoModelForCausalLM": "own.OwnModel"},
    }
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "own.py").write_text("raise SystemExit('own code ran')\n")
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n"))
    with pytest.raises(SubjectNotFoundError, match="code of its own"):
        load_subject(str(folder))
    assert sys.stdin.read() == "y\n"
    assert "Do you wish to run" not in capsys.readouterr().out
