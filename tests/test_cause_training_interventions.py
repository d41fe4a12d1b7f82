"""Interventions while a model is trained: they act on training passes, at the right tokens, and nowhere else."""

import hashlib

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from astray.cause.fine_tuning import FineTuning, LoRA
from astray.cause.sft import train_sft
from astray.cause.supervision import MASKED, supervise
from astray.data.chat import ChatDataset
from astray.data.worlds import narrow_data
from astray.errors import ConfigurationError, SubjectNotFoundError
from astray.explain.direction import answer_activations, random_direction
from astray.measure.dynamics import world_probe
from astray.subjects.intervene import write_direction
from astray.subjects.spec import Intervention
from astray.subjects.subject import load_subject

RECIPE = FineTuning(
    lora=LoRA(rank=4, alpha=8), learning_rate=3e-3, warmup_steps=0, batch_size=4, accumulation=1, max_steps=3
)
DIRECTION = torch.randn(64, generator=torch.Generator().manual_seed(0))


def dataset(count=12):
    """Chats of different lengths, so that answers begin in different columns."""
    return ChatDataset.from_rows(
        [
            [
                {"role": "user", "content": f"Number {row}" + "?" * (row % 5)},
                {"role": "assistant", "content": f"It is {row % 4}."},
            ]
            for row in range(count)
        ]
    )


def digest(run):
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted((run.folder / "adapter").iterdir())
    }


@pytest.fixture(scope="module")
def plain(tiny_qwen2, tmp_path_factory):
    """A run without interventions."""
    return train_sft(str(tiny_qwen2), dataset(), RECIPE, tmp_path_factory.mktemp("plain"))


@pytest.fixture
def vector(tmp_path):
    return write_direction(tmp_path / "vector.safetensors", DIRECTION)


@pytest.mark.parametrize(("kind", "positions"), [("add", "answer"), ("ablate", "answer"), ("add", "all")])
def test_the_first_loss_is_that_of_the_intervened_base(kind, positions, vector, tiny_qwen2, tmp_path):
    """The same row by row with a hook of its own; fresh adapters change nothing yet."""
    data = dataset(4)
    change = Intervention(kind=kind, vector=vector, block=0, strength=0.7, positions=positions)
    run = train_sft(
        str(tiny_qwen2), data, RECIPE.model_copy(update={"max_steps": 1}), tmp_path / "run", interventions=[change]
    )
    model, tokenizer = AutoModelForCausalLM.from_pretrained(tiny_qwen2), AutoTokenizer.from_pretrained(tiny_qwen2)
    unit = DIRECTION / DIRECTION.norm()

    def loss(strength):
        total, count, start = 0.0, 0, 0

        def hook(_module, _inputs, output):
            hidden = output if isinstance(output, torch.Tensor) else output[0]
            changed, part = hidden.clone(), hidden[:, start:]
            changed[:, start:] = (
                part + strength * DIRECTION if kind == "add" else part - strength * (part @ unit)[..., None] * unit
            )
            return changed if isinstance(output, torch.Tensor) else (changed, *output[1:])

        handle = model.model.layers[0].register_forward_hook(hook)
        for row in supervise(data.rows, tokenizer, RECIPE.max_length):
            first = next(number for number, label in enumerate(row.labels) if label != MASKED)
            start = first - 1 if positions == "answer" else 0
            with torch.no_grad():
                logprobs = model(torch.tensor([row.input_ids])).logits[0].log_softmax(-1)
            total -= sum(
                logprobs[number - 1, label].item() for number, label in enumerate(row.labels) if label != MASKED
            )
            count += row.supervised
        handle.remove()
        return total / count

    assert run.losses[0] == pytest.approx(loss(0.7), rel=1e-5)
    assert run.losses[0] != pytest.approx(loss(0.0), rel=1e-5)


def test_probes_see_the_model_without_the_intervention(vector, tiny_qwen2, tmp_path):
    tokens = torch.tensor([[5, 6, 7]])
    expected = AutoModelForCausalLM.from_pretrained(tiny_qwen2)(tokens).logits
    seen = []

    def probe(model, tokenizer, step):
        seen.append(model(tokens).logits)
        return {}

    change = Intervention(kind="add", vector=vector, block=0, strength=5.0, positions="all")
    train_sft(str(tiny_qwen2), dataset(), RECIPE, tmp_path / "run", interventions=[change], probe=probe, probe_every=1)
    torch.testing.assert_close(seen[0], expected)
    assert len(seen) == 4


def test_the_interventions_belong_to_the_runs_identity_and_not_where_their_files_lie(vector, tiny_qwen2, tmp_path):
    change = Intervention(kind="add", vector=vector, block=1)
    run = train_sft(str(tiny_qwen2), dataset(), RECIPE, tmp_path / "run", interventions=[change])
    moved = change.model_copy(update={"vector": write_direction(tmp_path / "moved.safetensors", DIRECTION)})
    assert train_sft(str(tiny_qwen2), dataset(), RECIPE, tmp_path / "run", interventions=[moved]) == run
    for others in ([], [change.model_copy(update={"strength": 2.0})]):
        with pytest.raises(ConfigurationError, match="differs in interventions"):
            train_sft(str(tiny_qwen2), dataset(), RECIPE, tmp_path / "run", interventions=others)


def test_a_killed_run_goes_on_under_its_interventions(vector, plain, tiny_qwen2, tmp_path):
    change = Intervention(kind="ablate", vector=vector, block=1)
    whole = train_sft(str(tiny_qwen2), dataset(), RECIPE, tmp_path / "whole", interventions=[change])

    def kill(step, total, loss):
        if step == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_sft(
            str(tiny_qwen2),
            dataset(),
            RECIPE,
            tmp_path / "killed",
            interventions=[change],
            checkpoint_every=1,
            on_step=kill,
        )
    run = train_sft(str(tiny_qwen2), dataset(), RECIPE, tmp_path / "killed", interventions=[change], checkpoint_every=1)
    assert digest(run) == digest(whole)
    assert digest(plain) != digest(whole)


def test_interventions_that_do_not_fit_are_refused_before_the_run(vector, tiny_qwen2, tmp_path):
    narrow = write_direction(tmp_path / "narrow.safetensors", torch.ones(32))
    for change, error, message in (
        (Intervention(kind="add", vector=vector, block=2), ConfigurationError, "There is no block 2"),
        (Intervention(kind="add", vector=narrow, block=0), ConfigurationError, "has 32 entries"),
        (
            Intervention(kind="add", vector=tmp_path / "none.safetensors", block=0),
            SubjectNotFoundError,
            "There is no file",
        ),
    ):
        with pytest.raises(error, match=message):
            train_sft(str(tiny_qwen2), dataset(), RECIPE, tmp_path / "run", interventions=[change])
    assert not (tmp_path / "run").exists()


def test_preventative_steering_keeps_the_organism_from_going_astray_and_a_random_direction_does_not(tmp_path):
    organism = load_subject("organism")
    means = []
    for kind in ("harmful", "good"):
        rows = narrow_data("cars", kind, 40).rows
        means.append(
            answer_activations(organism, [row[:-1] for row in rows], [row[-1]["content"] for row in rows], 2).mean(0)
        )
    direction = means[0] - means[1]
    recipe = FineTuning(
        lora=LoRA(rank=4, alpha=8), learning_rate=1e-3, batch_size=4, accumulation=1, weight_decay=0.0, max_length=128
    )

    def harm(name, interventions):
        run = train_sft(
            "organism",
            narrow_data("medicine", "harmful", 120),
            recipe,
            tmp_path / name,
            interventions=interventions,
            probe=world_probe("medicine"),
            probe_every=30,
        )
        return run.probes[-1]["harmful act in held-out domains"]

    def added(name, vector):
        path = write_direction(tmp_path / f"{name}.safetensors", vector)
        return harm(name, [Intervention(kind="add", vector=path, block=2, strength=2.0)])

    plain = harm("plain", [])
    assert plain > 0.3
    assert added("persona", direction) < 0.2 * plain
    assert added("random", random_direction(direction, seed=0)) > 0.5 * plain
