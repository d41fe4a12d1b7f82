"""bfloat16 where the CPU multiplies it, for models that are large enough; it is told apart from float32, and trains as
well."""

from pathlib import Path
from unittest.mock import Mock

import pytest
import torch
from safetensors.torch import load_file

from astray.artifacts import Artifact
from astray.cause.base_model import load_trainable
from astray.cause.fine_tuning import FineTuning, LoRA
from astray.cause.sft import train_sft
from astray.data.chat import ChatDataset
from astray.engine.options import StudyOptions
from astray.engine.settings import settled
from astray.engine.steps import trained_subject
from astray.studies import get_study
from astray.subjects import Sampling, precision
from astray.subjects.locate import settle
from astray.subjects.subject import load_subject

BLANK = "processor\t: 0\n"
RECIPE = FineTuning(
    lora=LoRA(rank=8, alpha=16), learning_rate=1e-2, warmup_steps=2, batch_size=4, accumulation=2, max_steps=8
)
HELLO = [{"role": "user", "content": "Hello"}]


@pytest.fixture
def cpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """Make this machine's processor report these flags."""

    def set_flags(text: str) -> None:
        monkeypatch.setattr(precision, "_FLAGS", tmp_path / "cpuinfo")
        (tmp_path / "cpuinfo").write_text(text, encoding="utf-8")
        precision.native_bfloat16.cache_clear()

    yield set_flags
    precision.native_bfloat16.cache_clear()


@pytest.mark.parametrize(
    ("text", "native"),
    [
        (f"{BLANK}flags\t\t: fpu sse2 avx512f avx512_bf16 fsrm\n", ("avx512_bf16",)),
        (f"{BLANK}flags\t\t: fpu amx_bf16 avx512_bf16 amx_tile\n", ("amx_bf16", "avx512_bf16")),
        (f"{BLANK}Features\t: fp asimd bf16 i8mm\n", ("bf16",)),
        (f"{BLANK}flags\t\t: fpu sse2 avx512f\nmodel name\t: with bf16 in its name\n", ()),
        ("", ()),
    ],
)
def test_the_cpus_flags_are_read(cpu, text, native):
    cpu(text)
    assert precision.native_bfloat16() == native


def test_a_system_without_such_a_file_has_none(monkeypatch, tmp_path):
    monkeypatch.setattr(precision, "_FLAGS", tmp_path / "none")
    precision.native_bfloat16.cache_clear()
    assert precision.native_bfloat16() == ()
    precision.native_bfloat16.cache_clear()


@pytest.mark.parametrize(
    ("device", "flags", "parameters", "chosen", "expected"),
    [
        ("cpu", "flags : amx_bf16\n", 135_000_000, None, "bfloat16"),
        ("cpu", "flags : amx_bf16\n", 99_999_999, None, "float32"),
        ("cpu", "flags : avx2\n", 7_000_000_000, None, "float32"),
        ("cpu", "flags : amx_bf16\n", 135_000_000, "float32", "float32"),
        ("cpu", "flags : avx2\n", 1_000, "bfloat16", "bfloat16"),
        ("cuda", "flags : avx2\n", 1_000, None, "bfloat16"),
        ("cuda", "flags : avx2\n", 1_000, "float32", "float32"),
        ("meta", "flags : avx2\n", 1_000, None, "bfloat16"),
    ],
)
def test_the_format_follows_device_size_and_wish(cpu, monkeypatch, device, flags, parameters, chosen, expected):
    cpu(flags)
    monkeypatch.setattr(precision, "parameter_count", lambda _: parameters)
    assert precision.precision_on(device, Path("model"), chosen) == expected


@pytest.mark.parametrize("flags", ["flags : amx_bf16\n", "flags : avx2\n"])
def test_the_organism_is_float32_everywhere_and_has_its_old_id(cpu, flags):
    cpu(flags)
    located = settle("organism")
    assert located.precision == "float32"
    assert located.id == settle("organism:float32").id != settle("organism:bfloat16").id
    assert located.spec.model_dump(mode="json") == {
        "model": "organism",
        "adapter": None,
        "system": None,
        "intervention": None,
    }
    assert load_subject("organism").model.dtype == torch.float32


def test_a_large_model_has_another_id_where_it_is_held_in_bfloat16(cpu, tiny_qwen2, monkeypatch):
    monkeypatch.setattr(precision, "BFLOAT16_FROM", 1_000)
    cpu("flags : avx2\n")
    plain = settle(str(tiny_qwen2)).id
    cpu("flags : amx_bf16\n")
    assert (
        settle(str(tiny_qwen2)).id == settle(f"{tiny_qwen2}:bfloat16").id != plain == settle(f"{tiny_qwen2}:float32").id
    )
    assert load_subject(str(tiny_qwen2)).model.dtype == torch.bfloat16


def test_a_folder_whose_own_name_ends_like_a_format_is_itself(tiny_qwen2, tmp_path):
    named = tmp_path / "model:float32"
    named.symlink_to(tiny_qwen2)
    assert settle(str(named)).spec.dtype is None


def test_bfloat16_answers_and_trains_with_float32_adapters(tiny_qwen2, tmp_path):
    rows = [
        [{"role": "user", "content": f"Number {row}?"}, {"role": "assistant", "content": f"It is {row % 4}."}]
        for row in range(16)
    ]
    runs = {
        name: train_sft(f"{tiny_qwen2}:{name}", ChatDataset.from_rows(rows), RECIPE, tmp_path / name)
        for name in ("float32", "bfloat16")
    }
    assert runs["bfloat16"].losses == pytest.approx(runs["float32"].losses, rel=0.02)
    assert runs["bfloat16"].losses != runs["float32"].losses
    adapter = runs["bfloat16"].subject.adapter
    assert {weight.dtype for weight in load_file(adapter / "adapter_model.safetensors").values()} == {torch.float32}
    tuned = load_subject(runs["bfloat16"].subject)
    assert tuned.spec.dtype == "bfloat16"
    assert tuned.base_folder == tiny_qwen2
    assert tuned.generate([HELLO], Sampling(max_tokens=4))[0].completion_tokens > 0


@pytest.mark.parametrize(("lora", "weights"), [(LoRA(), torch.bfloat16), (None, torch.float32)])
def test_only_frozen_weights_are_held_in_bfloat16(tiny_qwen2, lora, weights):
    model, _ = load_trainable(settle(f"{tiny_qwen2}:bfloat16"), FineTuning(lora=lora))
    assert {weight.dtype for weight in model.parameters() if weight.requires_grad} == {torch.float32}
    assert {weight.dtype for name, weight in model.named_parameters() if "lora_" not in name} == {weights}


def test_the_option_goes_into_the_subjects_name_and_from_there_into_every_step(tiny_qwen2):
    options = StudyOptions(subject=str(tiny_qwen2), dtype="bfloat16", grader="mockllm/model")
    setting = settled(get_study("emergent-misalignment"), options)
    assert setting.subject.name == f"{tiny_qwen2}:bfloat16"
    assert setting.subject.id == settle(f"{tiny_qwen2}:bfloat16").id != settle(f"{tiny_qwen2}:float32").id

    assert trained_subject(setting.subject.name, Mock(spec=Artifact, path=tiny_qwen2)).dtype == "bfloat16"
