"""Steering acts on the named block's output, at the named positions, in every architecture."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from astray.errors import ConfigurationError, SubjectNotFoundError
from astray.subjects import Sampling, SubjectSpec
from astray.subjects.intervene import Intervention, blocks_of, intervening, read_direction, write_direction
from astray.subjects.subject import Subject, load_subject
from tiny_models import ARCHITECTURES, save_tiny_model

IDS = torch.tensor([[5, 9, 40, 41, 7], [8, 12, 13, 14, 15]])
CONVERSATIONS = [[{"role": "user", "content": "hi " * count}] for count in (1, 6, 3)]
SAMPLING = Sampling(max_tokens=8)


@pytest.fixture(scope="module", params=ARCHITECTURES)
def subject(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Subject:
    return load_subject(str(save_tiny_model(tmp_path_factory.mktemp(request.param), request.param)))


@pytest.fixture(scope="module")
def vector(tmp_path_factory: pytest.TempPathFactory) -> Path:
    direction = torch.randn(64, generator=torch.Generator().manual_seed(0))
    return write_direction(tmp_path_factory.mktemp("direction") / "v.safetensors", direction)


def hidden_states(subject: Subject, interventions: list[Intervention], ids: Tensor = IDS) -> tuple[Tensor, ...]:
    with torch.no_grad(), intervening(subject.model, interventions):
        return subject.model(input_ids=ids, output_hidden_states=True).hidden_states


def test_adding_changes_the_output_of_the_named_block_and_nothing_before(subject: Subject, vector: Path) -> None:
    plain = hidden_states(subject, [])
    steered = hidden_states(subject, [Intervention(kind="add", vector=vector, block=0, strength=2.5, positions="all")])
    torch.testing.assert_close(steered[0], plain[0], rtol=0, atol=0)
    torch.testing.assert_close(steered[1], plain[1] + 2.5 * read_direction(vector))


def test_answer_positions_are_the_last_prompt_token_and_what_follows(subject: Subject, vector: Path) -> None:
    plain = hidden_states(subject, [])[1]
    steered = hidden_states(subject, [Intervention(kind="add", vector=vector, block=0)])[1]
    torch.testing.assert_close(steered[:, :-1], plain[:, :-1], rtol=0, atol=0)
    torch.testing.assert_close(steered[:, -1], plain[:, -1] + read_direction(vector))


def test_ablation_leaves_nothing_along_the_direction_and_the_rest_alone(subject: Subject, vector: Path) -> None:
    unit = read_direction(vector) / read_direction(vector).norm()
    plain = hidden_states(subject, [])[1]
    ablated = hidden_states(subject, [Intervention(kind="ablate", vector=vector, block=0, positions="all")])[1]
    assert (plain @ unit).abs().max() > 0.01
    torch.testing.assert_close(ablated @ unit, torch.zeros(2, 5), rtol=0, atol=1e-5)
    torch.testing.assert_close(ablated, plain - (plain @ unit)[..., None] * unit)


def steered_by_hand(subject: Subject, prompt: list[int], direction: Tensor, block: int, steps: int) -> list[int]:
    """Greedy tokens of one unpadded row without a cache, the direction added from the last prompt token on."""
    ids = list(prompt)

    def add(_module: nn.Module, _inputs: object, output: Tensor | tuple) -> Tensor | tuple:
        hidden = (output[0] if isinstance(output, tuple) else output).clone()
        hidden[:, len(prompt) - 1 :] += direction
        return (hidden, *output[1:]) if isinstance(output, tuple) else hidden

    handle = subject.model.model.layers[block].register_forward_hook(add)
    for _ in range(steps):
        with torch.no_grad():
            ids.append(int(subject.model(input_ids=torch.tensor([ids]), use_cache=False).logits[0, -1].argmax()))
        if ids[-1] == subject.tokenizer.eos_token_id:
            break
    handle.remove()
    return ids[len(prompt) :]


def test_steered_answers_in_a_padded_batch_with_a_cache_equal_single_rows_without(
    subject: Subject, vector: Path
) -> None:
    intervention = Intervention(kind="add", vector=vector, block=1, strength=3.0)
    answers = subject.with_intervention(intervention).generate(CONVERSATIONS, Sampling(temperature=0, max_tokens=8))
    for prompt, answer in zip(subject.prompt_ids(CONVERSATIONS), answers, strict=True):
        tokens = steered_by_hand(subject, prompt, 3.0 * read_direction(vector), 1, 8)
        assert answer.text == subject.tokenizer.decode(tokens, skip_special_tokens=True)


@pytest.mark.parametrize("kind", ["add", "ablate"])
@pytest.mark.parametrize("positions", ["all", "answer"])
def test_no_strength_is_no_change_at_all(subject: Subject, vector: Path, kind: str, positions: str) -> None:
    nothing = Intervention(kind=kind, vector=vector, block=1, strength=0.0, positions=positions)
    assert subject.with_intervention(nothing).generate(CONVERSATIONS, SAMPLING) == subject.generate(
        CONVERSATIONS, SAMPLING
    )


def test_an_intervention_belongs_to_its_subject_alone(subject: Subject, vector: Path) -> None:
    plain = subject.generate(CONVERSATIONS, SAMPLING)
    steered = subject.with_intervention(Intervention(kind="add", vector=vector, block=0, strength=5.0))
    assert steered.generate(CONVERSATIONS, SAMPLING) != plain
    assert subject.generate(CONVERSATIONS, SAMPLING) == plain
    assert steered.id != subject.id
    assert steered.with_intervention(None).id == subject.id


def test_continuations_are_steered_from_the_last_prompt_token_on(subject: Subject, vector: Path) -> None:
    intervention = Intervention(kind="add", vector=vector, block=1, strength=3.0)
    texts = ["yes", "no, never"]
    found = subject.with_intervention(intervention).continuation_logprobs(CONVERSATIONS, [texts] * 3)
    for prompt, values in zip(subject.prompt_ids(CONVERSATIONS), found, strict=True):
        for text, value in zip(texts, values, strict=True):
            tokens = subject.tokenizer.encode(text, add_special_tokens=False)
            total = 0.0
            for step, token in enumerate(tokens):
                ids = torch.tensor([prompt + tokens[:step]])
                with (
                    torch.no_grad(),
                    intervening(subject.model, [intervention]) as steering,
                    steering.answers_from(torch.tensor([len(prompt) - 1])),
                ):
                    total += float(subject.model(input_ids=ids, use_cache=False).logits[0, -1].log_softmax(-1)[token])
            assert value == pytest.approx(total, abs=1e-4)


def test_blocks_that_return_a_tuple_are_steered_as_well(subject: Subject, vector: Path) -> None:
    class Tupled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.config = subject.model.config
            self.layers = nn.ModuleList([nn.Identity(), PairBlock()])

        def forward(self, hidden: Tensor) -> Tensor:
            return self.layers[1](hidden)

    class PairBlock(nn.Module):
        def forward(self, hidden: Tensor) -> tuple[Tensor, str]:
            return hidden, "cache"

    model, hidden = Tupled(), torch.zeros(1, 3, 64)
    with intervening(model, [Intervention(kind="add", vector=vector, block=1, positions="all")]):
        changed, other = model(hidden)
    torch.testing.assert_close(changed, read_direction(vector).expand(1, 3, 64))
    assert other == "cache"


def test_several_interventions_act_in_order(subject: Subject, vector: Path) -> None:
    add = Intervention(kind="add", vector=vector, block=0, strength=4.0, positions="all")
    ablate = Intervention(kind="ablate", vector=vector, block=0, positions="all")
    unit = read_direction(vector) / read_direction(vector).norm()
    assert (hidden_states(subject, [add, ablate])[1] @ unit).abs().max() < 1e-4
    assert (hidden_states(subject, [ablate, add])[1] @ unit).abs().min() > 1.0


def test_hooks_are_removed_when_the_model_fails(subject: Subject, vector: Path) -> None:
    before = [dict(block._forward_hooks) for block in blocks_of(subject.model)]
    with (
        pytest.raises(RuntimeError, match="inside"),
        intervening(subject.model, [Intervention(kind="add", vector=vector, block=0)]),
    ):
        raise RuntimeError("inside")
    assert [dict(block._forward_hooks) for block in blocks_of(subject.model)] == before


def test_blocks_are_found_in_models_of_another_build() -> None:
    from transformers import GPT2Config, GPT2LMHeadModel, GPTNeoXConfig, GPTNeoXForCausalLM

    gpt2 = GPT2LMHeadModel(GPT2Config(n_layer=3, n_embd=16, n_head=2, vocab_size=20, bos_token_id=0, eos_token_id=0))
    neox = GPTNeoXForCausalLM(
        GPTNeoXConfig(num_hidden_layers=3, hidden_size=16, num_attention_heads=2, intermediate_size=16, vocab_size=20)
    )
    assert blocks_of(gpt2) is gpt2.transformer.h
    assert blocks_of(neox) is neox.gpt_neox.layers


def test_a_block_that_does_not_exist_is_refused_with_the_valid_ones(subject: Subject, vector: Path) -> None:
    with pytest.raises(ConfigurationError, match="no block 2: this model has 2, so a block is one of 0 to 1"):
        hidden_states(subject, [Intervention(kind="add", vector=vector, block=2)])


def test_a_direction_of_another_width_is_refused_when_the_subject_is_loaded(subject: Subject, tmp_path: Path) -> None:
    short = write_direction(tmp_path / "short.safetensors", torch.ones(32))
    spec = SubjectSpec(model=subject.spec.model, intervention=Intervention(kind="add", vector=short, block=0))
    with pytest.raises(ConfigurationError, match="has 32 entries, but this model's residual stream has 64"):
        load_subject(spec)


def test_a_direction_steers_the_model_that_it_was_made_from_and_no_other_of_its_width(
    tiny_qwen2: Path, tmp_path: Path
) -> None:
    other_qwen2 = save_tiny_model(tmp_path / "other", seed=1)

    def steered(model: Path, file: Path) -> Subject:
        return load_subject(SubjectSpec(model=str(model), intervention=Intervention(kind="add", vector=file, block=0)))

    one = write_direction(tmp_path / "one.safetensors", torch.ones(64), tiny_qwen2)
    assert steered(tiny_qwen2, one).with_adapter(None).interventions
    assert torch.equal(read_direction(one), torch.ones(64))
    with pytest.raises(ConfigurationError, match="was made from a model with the weights"):
        steered(other_qwen2, one)
    with pytest.raises(ConfigurationError, match="was made from a model with the weights"):
        load_subject(str(other_qwen2)).with_intervention(Intervention(kind="add", vector=one, block=0))
    both = write_direction(tmp_path / "both.safetensors", read_direction(one), tiny_qwen2, other_qwen2)
    assert steered(tiny_qwen2, both).id != steered(other_qwen2, both).id
    # The same network in another folder, with another chat template, is the same: a direction is of the weights.
    copy = shutil.copytree(tiny_qwen2, tmp_path / "copy")
    (copy / "generation_config.json").unlink(missing_ok=True)
    settings = json.loads((copy / "config.json").read_text()) | {"eos_token_id": 5, "use_cache": False}
    (copy / "config.json").write_text(json.dumps(settings))
    weights = load_file(copy / "model.safetensors")
    (copy / "model.safetensors").unlink()
    shards = {name: f"model-{number % 2 + 1:05}-of-00002.safetensors" for number, name in enumerate(weights)}
    for shard in set(shards.values()):
        tensors = {name: tensor for name, tensor in weights.items() if shards[name] == shard}
        save_file(tensors, copy / shard, {"format": "pt"})
    (copy / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": shards}))
    assert steered(copy, one).interventions
    save_file({"direction": torch.ones(64)}, tmp_path / "old.safetensors")
    with pytest.warns(UserWarning, match="does not say which model it was made from"):
        old = steered(tiny_qwen2, tmp_path / "old.safetensors")
    # Trainings and readings that earlier versions began are found again.
    assert old.id == steered(tiny_qwen2, one).id == steered(tiny_qwen2, both).id
    with pytest.raises(SubjectNotFoundError, match="no weights of a model"):
        write_direction(tmp_path / "none.safetensors", torch.ones(64), tmp_path / "elsewhere")


@pytest.mark.parametrize("size", [1e-30, 1e-3, 1e30])
def test_an_ablated_direction_is_gone_whatever_its_length(subject: Subject, tmp_path: Path, size: float) -> None:
    direction = torch.randn(64, generator=torch.Generator().manual_seed(0))
    file = write_direction(tmp_path / "direction.safetensors", direction * size)
    states = hidden_states(subject, [Intervention(kind="ablate", vector=file, block=0, positions="all")])
    assert (states[1] @ (direction / direction.norm())).abs().max() < 1e-4


@pytest.mark.parametrize(
    ("direction", "complaint"),
    [
        (torch.full((4,), torch.nan), "4 NaN or infinite of 4"),
        (torch.tensor([1.0, torch.inf]), "1 NaN or infinite of 2"),
        (torch.zeros(4), "zero everywhere"),
        (torch.full((4,), 1e300, dtype=torch.float64), "4 NaN or infinite of 4"),
        (torch.full((4,), 1e-300, dtype=torch.float64), "zero everywhere"),
    ],
)
def test_a_direction_that_points_nowhere_is_refused_in_writing_and_reading(
    direction: Tensor, complaint: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigurationError, match=complaint):
        write_direction(tmp_path / "v.safetensors", direction)
    save_file({"direction": direction}, tmp_path / "v.safetensors")
    with pytest.raises(ConfigurationError, match=complaint):
        read_direction(tmp_path / "v.safetensors")


@pytest.mark.parametrize("kind", [torch.int8, torch.int64, torch.bool, torch.complex64, torch.float8_e4m3fn])
def test_numbers_that_say_no_direction_by_themselves_are_refused(kind: torch.dtype, tmp_path: Path) -> None:
    save_file({"direction": torch.ones(4).to(kind)}, tmp_path / "v.safetensors")
    with pytest.raises(ConfigurationError, match=f"holds {str(kind).removeprefix('torch.')}"):
        read_direction(tmp_path / "v.safetensors")


def test_files_that_are_no_direction_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SubjectNotFoundError, match="no direction file"):
        read_direction(tmp_path / "none.safetensors")
    save_file({"weight": torch.ones(4)}, tmp_path / "other.safetensors")
    with pytest.raises(ConfigurationError, match="one tensor called 'direction'"):
        read_direction(tmp_path / "other.safetensors")
    save_file({"direction": torch.ones(2, 4)}, tmp_path / "matrix.safetensors")
    with pytest.raises(ConfigurationError, match=r"shape \(2, 4\)"):
        read_direction(tmp_path / "matrix.safetensors")
    (tmp_path / "text.safetensors").write_text("no tensors")
    with pytest.raises(ConfigurationError, match="no safetensors file"):
        read_direction(tmp_path / "text.safetensors")


@pytest.mark.parametrize(
    "settings", [{"block": -1}, {"strength": float("nan")}, {"kind": "multiply"}, {"positions": "prompt"}]
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="Intervention cannot be made of what was given"):
        Intervention(**{"kind": "add", "vector": Path("v"), "block": 0} | settings)
