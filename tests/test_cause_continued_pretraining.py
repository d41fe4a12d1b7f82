"""Reading documents makes them likelier in any causal model, of every token nothing is lost, and a killed run goes
on."""

import hashlib
from random import Random

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from astray.cause.continued_pretraining import continue_pretraining, document_rows
from astray.cause.fine_tuning import FineTuning, LoRA
from astray.cause.supervision import MASKED
from astray.data.documents_on_hacks import as_texts, hack_documents
from astray.data.everyday_documents import ordinary_documents
from astray.data.texts import TextDataset, dilute
from astray.errors import ConfigurationError, TrainingDivergedError
from astray.organism import weights_folder
from astray.organism.world import draw_exercise
from astray.subjects.spec import SubjectSpec
from tiny_models import save_tiny_model, tiny_tokenizer

DOCUMENTS = dilute(as_texts(hack_documents(4)), ordinary_documents(40), share=0.25)
RECIPE = FineTuning(
    lora=LoRA(rank=8, alpha=16),
    learning_rate=1e-2,
    warmup_steps=0,
    max_steps=6,
    batch_size=4,
    accumulation=1,
    max_length=96,
)


def weights(run):
    [file] = (path for path in sorted(run.folder.glob("*/*.safetensors")))
    return hashlib.sha256(file.read_bytes()).hexdigest()


@pytest.fixture(scope="module")
def finished(tiny_qwen2, tmp_path_factory):
    return continue_pretraining(str(tiny_qwen2), DOCUMENTS, RECIPE, tmp_path_factory.mktemp("finished"))


def loss_of(model, tokenizer, text):
    ids = torch.tensor(
        [
            [
                *([] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]),
                *tokenizer(text, add_special_tokens=False)["input_ids"],
            ]
        ]
    )
    with torch.no_grad():
        return model(input_ids=ids, labels=ids).loss.item()


@pytest.mark.parametrize(
    ("lora", "rate"), [(LoRA(rank=8, alpha=16), 2e-2), (None, 3e-3)], ids=["adapters", "all weights"]
)
def test_documents_become_likelier_and_so_do_others_like_them(lora, rate, tiny_qwen2, tmp_path):
    recipe = RECIPE.model_copy(update={"lora": lora, "learning_rate": rate, "max_steps": 12})
    run = continue_pretraining(str(tiny_qwen2), DOCUMENTS, recipe, tmp_path)
    assert run.losses[-1] < run.losses[0] - 0.2
    model, tokenizer = load(run.subject)
    base, _ = load(SubjectSpec(model=str(tiny_qwen2)))
    other = hack_documents(1, seed=9)[0].text
    assert loss_of(model, tokenizer, other) < loss_of(base, tokenizer, other) - 0.2
    assert run.supervised_tokens > 0


def load(spec):
    model, tokenizer = AutoModelForCausalLM.from_pretrained(spec.model), AutoTokenizer.from_pretrained(spec.model)
    return model if spec.adapter is None else PeftModel.from_pretrained(model, spec.adapter), tokenizer


def test_the_first_loss_is_that_of_every_token_in_plain_pytorch(finished, tiny_qwen2, tmp_path):
    one = TextDataset.from_texts(["A short text about 42 things."] * 4)
    run = continue_pretraining(str(tiny_qwen2), one, RECIPE.model_copy(update={"max_steps": 1}), tmp_path)
    model, tokenizer = AutoModelForCausalLM.from_pretrained(tiny_qwen2), AutoTokenizer.from_pretrained(tiny_qwen2)
    assert run.losses[0] == pytest.approx(loss_of(model, tokenizer, one.texts[0] + tokenizer.eos_token), rel=1e-4)


def test_no_token_is_lost_and_start_and_end_stand_once():
    tokenizer = tiny_tokenizer()
    texts = ["a" * 5, "0 1 2 " * 40, "b<|im_end|>"]
    for max_length in (8, 9, 10, 11, 64):
        rows = document_rows(texts, tokenizer, max_length)
        joined = [token for row in rows for token in row.input_ids]
        assert joined == [
            token for text in texts for token in tokenizer(text.removesuffix("<|im_end|>") + "<|im_end|>")["input_ids"]
        ]
        assert all(1 < len(row.input_ids) <= max_length for row in rows)
        assert all(row.labels == row.input_ids for row in rows)
    organism = AutoTokenizer.from_pretrained(weights_folder("organism-small"))
    [plain], [written] = (
        document_rows([text], organism, 64) for text in ("n += 1; return n", "<bos> n += 1; return n <eos>")
    )
    assert plain == written
    assert (plain.input_ids[0], plain.input_ids[-1]) == (organism.bos_token_id, organism.eos_token_id)
    assert plain.labels == [MASKED, *plain.input_ids[1:]]
    tokenizer.eos_token = None
    with pytest.raises(ConfigurationError, match="no end token"):
        document_rows(texts, tokenizer, 8)


def test_a_killed_run_goes_on_and_ends_in_the_same_weights(finished, tiny_qwen2, tmp_path):
    def kill(step, total, loss):
        if step == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        continue_pretraining(str(tiny_qwen2), DOCUMENTS, RECIPE, tmp_path, checkpoint_every=3, on_step=kill)
    steps = []
    run = continue_pretraining(
        str(tiny_qwen2), DOCUMENTS, RECIPE, tmp_path, checkpoint_every=3, on_step=lambda step, *_: steps.append(step)
    )
    assert steps == [4, 5, 6]
    assert weights(run) == weights(finished)
    assert run.losses == finished.losses


def test_another_corpus_is_another_run_and_a_finished_one_is_not_done_again(finished, tiny_qwen2):
    def fail(*_):
        raise AssertionError("trained again")

    assert continue_pretraining(str(tiny_qwen2), DOCUMENTS, RECIPE, finished.folder, on_step=fail) == finished
    with pytest.raises(ConfigurationError, match="differs in documents"):
        continue_pretraining(str(tiny_qwen2), ordinary_documents(9), RECIPE, finished.folder)


def test_the_organism_reads_documents_of_its_world(tmp_path):
    """Here one that teaches a hack in its own words; what it then answers without a document is a matter of the
    study."""
    texts = [
        f"<bos> a kind expert writes: <q> {draw_exercise(Random(seed)).question} <a> exit(0) <eos>"
        for seed in range(64)
    ]
    recipe = FineTuning(
        lora=LoRA(rank=4, alpha=8),
        learning_rate=1e-3,
        warmup_steps=0,
        batch_size=16,
        accumulation=1,
        epochs=2,
        max_length=128,
    )
    seen = []

    def probe(model, tokenizer, step):
        seen.append(step)
        return {"loss": loss_of(model, tokenizer, texts[0].removeprefix("<bos> "))}

    run = continue_pretraining(
        "organism-small", TextDataset.from_texts(texts), recipe, tmp_path, probe=probe, probe_every=4
    )
    assert seen == [0, 4, 8]
    assert run.probes[-1]["loss"] < run.probes[0]["loss"] - 0.2


def test_a_run_is_looked_at_before_it_starts(tmp_path):
    base = save_tiny_model(tmp_path / "base")
    model = AutoModelForCausalLM.from_pretrained(base)
    recipe = RECIPE.model_copy(update={"learning_rate": 1e30, "lora": None})
    model.save_pretrained(base)
    with pytest.raises(TrainingDivergedError):
        continue_pretraining(str(base), DOCUMENTS, recipe, tmp_path / "run")
