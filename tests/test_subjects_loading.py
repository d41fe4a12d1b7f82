"""Subjects are found, identified, refused and given adapters."""

import json
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers.models.auto.modeling_auto import AutoModelForCausalLM

from astray.errors import (
    AdapterMismatchError,
    ChatTemplateError,
    ConfigurationError,
    DataFormatError,
    SubjectNotFoundError,
)
from astray.subjects import Intervention, Sampling, SubjectSpec, register, resolve
from astray.subjects.base import KEPT_ADAPTERS, record_base, written_in
from astray.subjects.intervene import write_direction
from astray.subjects.locate import settle
from astray.subjects.registered import OWN_NAMES
from astray.subjects.subject import load_subject
from tiny_models import save_tiny_model

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*is_gradient_checkpointing:FutureWarning"
)  # PEFT asks for a name that transformers renames


HELLO = [{"role": "user", "content": "Hello"}]


GREEDY = Sampling(temperature=0, max_tokens=8)


def save_adapter(base: Path, folder: Path, seed: int = 1, **lora: object) -> Path:
    """A LoRA adapter with random weights that visibly change the model."""
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    tuned = get_peft_model(
        model, LoraConfig(r=4, target_modules=["q_proj", "v_proj", "down_proj"], task_type="CAUSAL_LM", **lora)
    )
    for name, parameter in tuned.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.3)
    tuned.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def adapters(tiny_qwen2: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("adapters")
    return [save_adapter(tiny_qwen2, folder / str(seed), seed) for seed in (1, 2)]


def logits(model: torch.nn.Module) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=torch.tensor([[5, 9, 40, 41]])).logits


def test_the_id_is_of_the_content_and_not_of_the_place(tiny_qwen2: Path, adapters: list[Path], tmp_path: Path) -> None:
    moved = shutil.copytree(tiny_qwen2, tmp_path / "elsewhere")
    adapter = shutil.copytree(adapters[0], tmp_path / "adapter")
    config = json.loads((adapter / "adapter_config.json").read_text())
    config["base_model_name_or_path"], config["target_modules"] = str(moved), config["target_modules"][::-1]
    (adapter / "adapter_config.json").write_text(json.dumps(config))
    assert settle(str(tiny_qwen2)).id == settle(str(moved)).id
    assert settle(SubjectSpec(model=str(tiny_qwen2), adapter=adapters[0])).id == settle(str(adapter)).id


def test_the_id_changes_with_everything_that_changes_answers(
    tiny_qwen2: Path, adapters: list[Path], tmp_path: Path
) -> None:
    other_weights = save_tiny_model(tmp_path / "weights", seed=1)
    other_template = shutil.copytree(tiny_qwen2, tmp_path / "template")
    (other_template / "chat_template.jinja").write_text("{{ messages[0]['content'] }}")
    up, down = (write_direction(tmp_path / f"{sign}.safetensors", sign * torch.ones(64)) for sign in (1, -1))
    base = SubjectSpec(model=str(tiny_qwen2))
    specs = [
        base,
        SubjectSpec(model=str(other_weights)),
        SubjectSpec(model=str(other_template)),
        *(base.model_copy(update={"adapter": adapter}) for adapter in adapters),
        base.model_copy(update={"system": "Be brief."}),
        *(
            base.model_copy(update={"intervention": Intervention(kind="add", vector=vector, block=0)})
            for vector in (up, down)
        ),
        base.model_copy(update={"intervention": Intervention(kind="ablate", vector=up, block=0)}),
        base.model_copy(update={"intervention": Intervention(kind="add", vector=up, block=0, strength=2)}),
    ]
    assert len({settle(spec).id for spec in specs}) == len(specs)
    assert all(len(settle(spec).id) == 16 for spec in specs)


def test_a_subject_knows_what_it_is(tiny_qwen2: Path, adapters: list[Path]) -> None:
    subject = load_subject(SubjectSpec(model=str(adapters[0]), system="Be brief."))
    assert subject.spec == SubjectSpec(model=str(tiny_qwen2), adapter=adapters[0], system="Be brief.")
    assert subject.id == settle(subject.spec).id
    assert subject.name == f"{tiny_qwen2.name} + 1 + system prompt"
    assert subject.device == torch.device("cpu")
    assert subject.model.dtype == torch.float32
    assert not subject.model.training


def test_an_adapter_answers_as_peft_says(tiny_qwen2: Path, adapters: list[Path]) -> None:
    from peft import PeftModel

    expected = PeftModel.from_pretrained(
        AutoModelForCausalLM.from_pretrained(tiny_qwen2, dtype=torch.float32), str(adapters[0])
    )
    torch.testing.assert_close(logits(load_subject(str(adapters[0])).model), logits(expected))


def test_adapters_are_swapped_on_one_base_without_traces(tiny_qwen2: Path, adapters: list[Path]) -> None:
    base = load_subject(str(tiny_qwen2))
    bare = logits(base.model)
    first, second = (base.with_adapter(adapter) for adapter in adapters)
    alone = [logits(load_subject(str(adapter)).model) for adapter in adapters]
    for _ in range(2):
        torch.testing.assert_close(logits(first.model), alone[0], rtol=0, atol=0)
        torch.testing.assert_close(logits(second.model), alone[1], rtol=0, atol=0)
        torch.testing.assert_close(logits(base.model), bare, rtol=0, atol=0)
        torch.testing.assert_close(logits(first.with_adapter(None).model), bare, rtol=0, atol=0)
    assert not torch.equal(alone[0], alone[1])


def test_only_the_last_adapters_stay_in_memory_and_an_earlier_one_comes_back(tiny_qwen2: Path, tmp_path: Path) -> None:
    base = load_subject(str(tiny_qwen2))
    subjects = [
        base.with_adapter(save_adapter(tiny_qwen2, tmp_path / str(seed), seed)) for seed in range(KEPT_ADAPTERS + 2)
    ]
    assert len(base._base._mounted) == KEPT_ADAPTERS
    torch.testing.assert_close(logits(subjects[0].model), logits(load_subject(str(tmp_path / "0")).model))


def test_merging_changes_nothing_but_rounding_and_leaves_no_trace(adapters: list[Path]) -> None:
    subject = load_subject(str(adapters[0]))
    before = logits(subject.model)
    weights = {name: parameter.clone() for name, parameter in subject.model.named_parameters()}
    with subject.merged() as model:
        torch.testing.assert_close(logits(model), before, rtol=1e-4, atol=1e-4)
        assert not torch.equal(
            model.model.layers[0].self_attn.q_proj.base_layer.weight,
            weights["model.layers.0.self_attn.q_proj.base_layer.weight"],
        )
        with subject.merged() as again:
            assert again is model
    assert all(torch.equal(parameter, weights[name]) for name, parameter in subject.model.named_parameters())
    assert torch.equal(logits(subject.model), before)


def test_an_adapted_weight_that_is_tied_to_another_module_is_not_written_in() -> None:
    """Written into the output layer, the adapter would act in the embeddings as well."""
    with pytest.warns(UserWarning, match="tied layer"):
        model = get_peft_model(
            load_subject("organism-small").model, LoraConfig(target_modules=["lm_head"], init_lora_weights=False)
        )
    ids = torch.tensor([[4, 5, 6]])
    with torch.no_grad():
        apart = model(ids).logits
        with written_in(model):
            assert torch.equal(model(ids).logits, apart)


def test_another_adapter_is_refused_while_one_is_merged(adapters: list[Path]) -> None:
    first = load_subject(str(adapters[0]))
    second = first.with_adapter(adapters[1])
    with first.merged(), pytest.raises(RuntimeError, match="merged"):
        second.generate([HELLO], GREEDY)
    assert second.generate([HELLO], GREEDY)


def test_subjects_on_one_base_answer_in_threads_as_they_do_alone(tiny_qwen2: Path, adapters: list[Path]) -> None:
    base = load_subject(str(tiny_qwen2))
    subjects = [base, *(base.with_adapter(adapter) for adapter in adapters)] * 4
    alone = [subject.generate([HELLO], GREEDY) for subject in subjects]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda subject: subject.generate([HELLO], GREEDY), subjects)) == alone


def test_a_tuned_subject_answers_otherwise_than_its_base(tiny_qwen2: Path, adapters: list[Path]) -> None:
    base = load_subject(str(tiny_qwen2))
    tuned = base.with_adapter(adapters[0])
    assert tuned.generate([HELLO], GREEDY) != base.generate([HELLO], GREEDY)
    assert tuned.id != base.id


def test_an_adapter_of_another_shape_is_refused_with_what_differs(
    tiny_qwen2: Path, adapters: list[Path], tmp_path: Path
) -> None:
    wide = save_tiny_model(tmp_path / "wide")
    config = json.loads((wide / "config.json").read_text()) | {"hidden_size": 128}
    (wide / "config.json").write_text(json.dumps(config))
    AutoModelForCausalLM.from_config(
        AutoModelForCausalLM.from_pretrained(tiny_qwen2).config.__class__(**config)
    ).save_pretrained(wide)
    with pytest.raises(
        AdapterMismatchError, match=r"q_proj\.lora_A\.weight is \[4, 64\] in the adapter and \[4, 128\] in the base"
    ):
        load_subject(SubjectSpec(model=str(wide), adapter=adapters[0]))


def test_an_adapter_with_modules_the_base_lacks_is_refused(
    tiny_qwen2: Path, adapters: list[Path], tmp_path: Path
) -> None:
    from safetensors.torch import load_file, save_file

    adapter = shutil.copytree(adapters[0], tmp_path / "deep")
    weights = load_file(adapter / "adapter_model.safetensors")
    save_file(
        {key.replace("layers.1.", "layers.7."): value for key, value in weights.items()},
        adapter / "adapter_model.safetensors",
    )
    with pytest.raises(AdapterMismatchError, match=r"layers\.7\.\S+ is not in the base"):
        load_subject(SubjectSpec(model=str(tiny_qwen2), adapter=adapter))


def test_an_adapter_of_a_twin_base_is_refused_by_the_record(
    tiny_qwen2: Path, adapters: list[Path], tmp_path: Path
) -> None:
    twin = save_tiny_model(tmp_path / "twin", seed=5)
    adapter = shutil.copytree(adapters[0], tmp_path / "adapter")
    record_base(adapter, tiny_qwen2)
    assert load_subject(str(adapter)).spec.adapter == adapter
    with pytest.raises(AdapterMismatchError, match="trained on a base with the identity"):
        load_subject(SubjectSpec(model=str(twin), adapter=adapter))


def test_a_model_without_a_chat_template_is_refused_with_the_file_to_write(tmp_path: Path) -> None:
    with pytest.raises(ChatTemplateError, match=r"chat_template\.jinja"):
        load_subject(str(save_tiny_model(tmp_path / "bare", template=None)))


@pytest.mark.parametrize("name", ["organsim", "org/no-such-model", "no such name", "/no/such/folder"])
def test_an_unknown_name_is_refused_with_the_valid_forms(name: str) -> None:
    with pytest.raises(SubjectNotFoundError, match="A subject is 'organism'"):
        load_subject(name)


def test_a_misspelt_organism_gets_a_hint() -> None:
    with pytest.raises(SubjectNotFoundError, match="Did you mean 'organism'"):
        load_subject("organsim")


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SubjectNotFoundError, match=r"holds no subject.*a run\)\.$"):
        load_subject(str(tmp_path))
    for name in ("second", "first"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "adapter_config.json").write_text("{}")
    with pytest.raises(SubjectNotFoundError, match=r"It holds several: name one of .*first, .*second\.$"):
        load_subject(str(tmp_path))


def test_a_model_with_pickled_weights_only_is_refused(tmp_path: Path) -> None:
    folder = save_tiny_model(tmp_path / "pickled")
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(SubjectNotFoundError, match="Pickled weights"):
        load_subject(str(folder))


def test_damaged_weights_are_refused(tmp_path: Path) -> None:
    folder = save_tiny_model(tmp_path / "damaged")
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:5000])
    with pytest.raises(SubjectNotFoundError, match="cannot be loaded"):
        load_subject(str(folder))


def test_damaged_adapters_and_configurations_are_refused(
    tiny_qwen2: Path, adapters: list[Path], tmp_path: Path
) -> None:
    adapter = shutil.copytree(adapters[0], tmp_path / "adapter")
    weights = adapter / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(DataFormatError, match="is damaged"):
        load_subject(str(adapter))
    model = shutil.copytree(tiny_qwen2, tmp_path / "model")
    (model / "config.json").write_text("{")
    with pytest.raises(DataFormatError, match=r"config\.json is no JSON"):
        assert settle(str(model)).id


def test_an_adapter_folder_without_weights_is_refused(tiny_qwen2: Path, adapters: list[Path], tmp_path: Path) -> None:
    adapter = shutil.copytree(adapters[0], tmp_path / "half")
    (adapter / "adapter_model.safetensors").unlink()
    with pytest.raises(SubjectNotFoundError, match=r"adapter_model\.safetensors missing"):
        load_subject(SubjectSpec(model=str(tiny_qwen2), adapter=adapter))


def test_an_adapter_that_names_no_base_is_refused(adapters: list[Path], tmp_path: Path) -> None:
    adapter = shutil.copytree(adapters[0], tmp_path / "orphan")
    config = json.loads((adapter / "adapter_config.json").read_text()) | {"base_model_name_or_path": None}
    (adapter / "adapter_config.json").write_text(json.dumps(config))
    with pytest.raises(SubjectNotFoundError, match="does not say which model"):
        load_subject(str(adapter))


def test_two_adapters_at_once_are_refused(adapters: list[Path]) -> None:
    with pytest.raises(ConfigurationError, match="already brings its own adapter"):
        load_subject(SubjectSpec(model=str(adapters[0]), adapter=adapters[1]))


def test_an_adapter_may_name_the_organism_as_its_base(adapters: list[Path], tmp_path: Path) -> None:
    adapter = shutil.copytree(adapters[0], tmp_path / "tuned")
    config = json.loads((adapter / "adapter_config.json").read_text()) | {"base_model_name_or_path": "organism"}
    (adapter / "adapter_config.json").write_text(json.dumps(config))
    assert resolve(str(adapter)) == SubjectSpec(model="organism", adapter=adapter)


def test_adapters_trained_on_a_subject_name_its_base_and_not_a_path(tiny_qwen2: Path, tmp_path: Path) -> None:
    subject = load_subject(str(tiny_qwen2))
    get_peft_model(subject.model, LoraConfig(r=2, target_modules=["q_proj"])).save_pretrained(tmp_path)
    assert json.loads((tmp_path / "adapter_config.json").read_text())["base_model_name_or_path"] == subject.spec.model


def test_a_registered_run_is_found_by_its_id_and_survives_moving_the_store(
    tiny_qwen2: Path, adapters: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = tmp_path / "store"
    adapter = shutil.copytree(adapters[0], store / "abc" / "adapter")
    vector = write_direction(store / "v.safetensors", torch.ones(64))
    spec = SubjectSpec(
        model=str(tiny_qwen2),
        adapter=adapter,
        system="Be brief.",
        intervention=Intervention(kind="add", vector=vector, block=0, strength=0.5),
    )
    register("run-1", spec, store)
    monkeypatch.setenv("ASTRAY_STORE", str(store))
    assert settle("run-1").id == settle(spec).id
    assert load_subject("run-1").id == settle(spec).id
    moved = store.rename(tmp_path / "moved")
    monkeypatch.setenv("ASTRAY_STORE", str(moved))
    assert resolve("run-1").adapter == moved / "abc" / "adapter"
    with pytest.raises(SubjectNotFoundError, match="Did you mean 'run-1'"):
        load_subject("run-11")


@pytest.mark.parametrize("name", OWN_NAMES)
def test_a_folder_called_as_a_model_of_ours_changes_no_run_of_that_model(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    register("run-1", SubjectSpec(model=name), Path(name) / "store")  # as a study with --out smollm2 does
    monkeypatch.setenv("ASTRAY_STORE", f"{name}/store")
    assert resolve("run-1").model == name
    assert resolve(name).model == name
    save_tiny_model(tmp_path / name)
    save_tiny_model(tmp_path / name / "store" / "run-2" / name)
    register("run-3", SubjectSpec(model=str(tmp_path / name)), Path("store"))
    register("run-2", SubjectSpec(model=str(tmp_path / name / "store" / "run-2" / name)), Path(name) / "store")
    monkeypatch.setenv("ASTRAY_STORE", os.pathsep.join(["store", f"{name}/store"]))
    for path in (f"./{name}", f"{name}/", f"./{name}:float32"):
        assert settle(path).base == tmp_path / name
    assert settle(SubjectSpec(model=f"./{name}")).base == tmp_path / name
    assert settle(resolve("run-3")).base.resolve() == tmp_path / name
    assert settle("run-2").base.resolve() == tmp_path / name / "store" / "run-2" / name


def test_a_damaged_registration_is_refused(tmp_path: Path) -> None:
    (tmp_path / "subject.json").write_text('{"modle": "organism"}')
    with pytest.raises(DataFormatError, match="no registered subject"):
        resolve(str(tmp_path))


@pytest.mark.parametrize(
    ("key", "value", "other", "is_same"),
    [
        ("layer_types", ["full_attention", "sliding_attention"], ["sliding_attention", "full_attention"], False),
        ("mlp_layer_types", ["sparse", "dense"], ["dense", "sparse"], False),
        ("rope_theta", 1e4, 1e6, False),
        ("eos_token_id", 1, 2, False),
        ("architectures", ["A", "B"], ["B", "A"], True),
        ("_name_or_path", "/here", "/there", True),
        ("transformers_version", "4", "5", True),
    ],
)
def test_an_identity_changes_with_what_changes_the_model_and_with_nothing_else(key, value, other, is_same, tmp_path):
    from astray.subjects.identity import base_identity

    def identity(value):
        (tmp_path / "config.json").write_text(json.dumps({"model_type": "x", key: value}))
        return base_identity(tmp_path)

    assert (identity(value) == identity(other)) is is_same
