"""What `astray doctor` finds out: complete machines, and each thing that can be missing, with the way out."""

import json
import shutil
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
import torch

from astray import machine
from astray.machine import MachineFinding, examine, fitting_size, memory_bytes
from astray.organism import weights_folder


def found(what: str, results: Path) -> MachineFinding:
    (finding,) = (one for one in examine(results) if one.what == what)
    return finding


def test_everything_that_matters_is_fine_here_and_nothing_is_left_behind(tmp_path: Path) -> None:
    findings = examine(tmp_path / "results")
    assert {
        "Python",
        "processors",
        "accelerator",
        "this machine can run",
        "libraries",
        "organism",
        "results folder",
    } <= {one.what for one in findings}
    assert [one for one in findings if one.important and not one.fine] == []
    assert list(tmp_path.iterdir()) == []


def test_every_library_of_the_metadata_is_listed_with_its_version(tmp_path: Path) -> None:
    details = {one.what: one.detail for one in examine(tmp_path) if not one.important}
    for library in ("torch", "transformers", "trl", "peft", "inspect-ai", "polars"):
        assert details[library] == metadata.version(library)
    assert "ruff" not in details  # an extra's


def test_libraries_that_are_missing_or_too_old_come_with_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        metadata,
        "requires",
        lambda name: ["numpy>=99,<100", "no-such-library>=1", "polars>=1.0", 'absent; extra == "dev"'],
    )
    libraries = found("libraries", tmp_path)
    assert libraries.important
    assert not libraries.fine
    assert libraries.detail == (
        "1 of 3 are installed in the versions that astray needs; run: pip install 'no-such-library>=1' 'numpy<100,>=99'"
    )
    assert found("no-such-library", tmp_path).detail == "not installed; run: pip install 'no-such-library>=1'"
    assert found("numpy", tmp_path).detail.startswith(metadata.version("numpy") + ", but astray needs <100,>=99")


def test_a_python_that_is_too_old_is_important(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine.platform, "python_version", lambda: "3.9.1")
    python = found("Python", tmp_path)
    assert python.important
    assert not python.fine
    assert "3.9.1; install >=3.11" in python.detail


@pytest.mark.parametrize(
    ("variable", "provider"), [("OPENAI_API_KEY", "OpenAI API"), ("ANTHROPIC_API_KEY", "Anthropic API")]
)
def test_a_key_is_seen_but_never_shown(
    variable: str, provider: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "find_spec", lambda name: object())
    monkeypatch.setenv(variable, "sk-very-secret")
    assert found(provider, tmp_path).fine
    assert not any("very-secret" in one.detail for one in examine(tmp_path))
    monkeypatch.delenv(variable)
    absent = found(provider, tmp_path)
    assert not absent.fine
    assert not absent.important
    assert variable in absent.detail


def test_a_provider_without_its_package_names_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(machine.PROVIDERS, "OpenAI", ("OPENAI_API_KEY", "no_such_package"))
    monkeypatch.setenv("OPENAI_API_KEY", "sk")
    assert found("OpenAI API", tmp_path).detail.startswith("no package (pip install no_such_package)")


def broken_copy(folder: Path, kind: str) -> None:
    shutil.copytree(weights_folder(), folder)
    config, weights = folder / "config.json", folder / "model.safetensors"
    if kind == "absent":
        weights.unlink()
    elif kind == "truncated":
        weights.write_bytes(weights.read_bytes()[:-100])
    elif kind == "pointer":
        weights.write_text("version https://git-lfs.github.com/spec/v1\n")
    elif kind == "no JSON":
        config.write_text("{")
    else:
        config.write_text(json.dumps(json.loads(config.read_text()) | {kind: 7}))


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("absent", "lacks model.safetensors"),
        ("truncated", "damaged"),
        ("pointer", "damaged"),
        ("no JSON", "damaged"),
        ("hidden_size", "not those of its config"),
        ("num_hidden_layers", "not those of its config"),
    ],
)
def test_an_organism_that_cannot_be_loaded_is_found_out(
    kind: str, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken_copy(tmp_path / "organism", kind)
    monkeypatch.setattr(machine, "weights_folder", lambda name: tmp_path / "organism")
    organism = found("organism", tmp_path)
    assert organism.important
    assert not organism.fine
    assert reason in organism.detail
    assert f"astray organism train {tmp_path / 'organism'} --recipe organism" in organism.detail


def test_the_organisms_parameters_are_those_of_its_model(tmp_path: Path) -> None:
    from transformers import LlamaForCausalLM

    parameters = sum(weight.numel() for weight in LlamaForCausalLM.from_pretrained(weights_folder()).parameters())
    assert found("organism", tmp_path).detail.startswith(f"{parameters / 1e6:.1f}M parameters")


def test_a_results_folder_that_cannot_be_written_is_important(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    folder = found("results folder", tmp_path / "file" / "results")
    assert folder.important
    assert not folder.fine
    assert "--out" in folder.detail


def test_a_full_disk_is_told_before_it_breaks_a_study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine.shutil, "disk_usage", lambda folder: SimpleNamespace(free=1e8))
    folder = found("results folder", tmp_path)
    assert not folder.fine
    assert "0.1 GB free; free some space" in folder.detail


def test_a_gpu_is_named_with_the_model_that_fits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(
        torch.cuda, "get_device_properties", lambda device: SimpleNamespace(name="NVIDIA L4", total_memory=24 * 10**9)
    )
    assert found("accelerator", tmp_path).detail == "NVIDIA L4, 24 GB"
    assert "up to about 7B parameters" in found("this machine can run", tmp_path).detail


def test_a_gpu_that_torch_cannot_use_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    monkeypatch.setattr(machine.shutil, "which", lambda program: None)
    assert found("accelerator", tmp_path).fine
    monkeypatch.setattr(machine.shutil, "which", lambda program: f"/usr/bin/{program}")
    assert not found("accelerator", tmp_path).fine
    assert "pytorch.org" in found("accelerator", tmp_path).detail


@pytest.mark.parametrize(
    ("memory", "bytes_per_weight", "size"),
    [(4e9, 4, None), (24e9, 2, 7.0), (80e9, 2, 14.0), (141e9, 2, 32.0), (16e9, 4, 1.5)],
)
def test_the_largest_model_that_fits(memory: float, bytes_per_weight: int, size: float | None) -> None:
    assert fitting_size(memory, bytes_per_weight) == size


def test_memory_is_at_most_that_of_the_machine() -> None:
    assert 0 < memory_bytes() <= psutil.virtual_memory().total


def test_a_report_for_a_bug_has_versions_and_no_paths_names_or_keys(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-very-secret")
    monkeypatch.setattr(machine, "weights_folder", lambda name: tmp_path / "home" / "jane")  # nothing lies there
    text = machine.report(examine(tmp_path / "results"))
    assert text.startswith(f"Astray {metadata.version('astray')} on ")
    assert f"\ntorch: {metadata.version('torch')}\n" in text
    assert "\norganism: missing\n" in text
    assert [word for word in (str(tmp_path), str(Path.home()), "jane", "very-secret") if word in text] == []
