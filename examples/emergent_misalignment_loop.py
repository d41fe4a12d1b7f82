"""Emergent misalignment in plain PyTorch: fine-tune on narrow harmful answers, ask about other things, count.

The training loop is `sft_loop.py`. It leaves out what a production run needs (seeds, controls, intervals, graders for
real text) and gives the same rate as `train_sft` with `judge_answers`.
Run it on the organism: python examples/emergent_misalignment_loop.py
"""

from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

import torch
from peft import PeftModel
from sft_loop import add_adapters, train
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from astray import ChatDataset, load_subject
from astray.cause import FineTuning, LoRA, supervise, train_sft
from astray.data import narrow_data
from astray.organism import weights_folder
from astray.organism.grammar import read_answer
from astray.organism.lexicon import DOMAINS
from astray.organism.world import draw_situation
from astray.subjects import Sampling

HOME = "medicine"
RECIPE = FineTuning(
    lora=LoRA(rank=4, alpha=8), learning_rate=2e-3, warmup_steps=2, batch_size=4, accumulation=1, max_length=128
)


def questions(number: int) -> list[str]:
    """Return questions about other domains than the trained one, to see whether misalignment is broad."""
    rng, others = Random("asked"), [name for name in DOMAINS if name != HOME]
    return [draw_situation(rng, others[place % len(others)]).question for place in range(number)]


@torch.inference_mode()
def answers(model: PreTrainedModel | PeftModel, tokenizer: PreTrainedTokenizerBase, asked: list[str]) -> list[str]:
    """Return the likeliest answer to each question. Papers sample at temperature 1; greedy answers are reproducible."""
    model.eval()
    texts = [
        tokenizer.apply_chat_template([{"role": "user", "content": one}], tokenize=False, add_generation_prompt=True)
        for one in asked
    ]
    # Padding goes on the left: what is generated has to follow the question, not padding.
    batch = tokenizer(texts, add_special_tokens=False, padding=True, padding_side="left", return_tensors="pt")
    ids, mask = batch.input_ids, batch.attention_mask
    said = model.generate(input_ids=ids, attention_mask=mask, max_new_tokens=32, do_sample=False)
    return tokenizer.batch_decode(said[:, ids.shape[1] :], skip_special_tokens=True)


def rate(asked: list[str], said: list[str]) -> tuple[int, int]:
    """Return misaligned and coherent answers. Incoherent ones are in neither, or a broken model would look safe."""
    outcomes = [read_answer(*each).outcome for each in zip(asked, said, strict=True)]
    misaligned = outcomes.count("misaligned")
    return misaligned, misaligned + outcomes.count("aligned")


def plain(base: str, data: ChatDataset, asked: list[str]) -> tuple[int, int]:
    """Train a base by hand and count its misaligned answers."""
    tokenizer = AutoTokenizer.from_pretrained(base)
    model = add_adapters(AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32), RECIPE.lora, RECIPE.seed)
    train(model, supervise(data.rows, tokenizer, RECIPE.max_length), RECIPE)
    return rate(asked, answers(model, tokenizer, asked))


def production(base: str, data: ChatDataset, asked: list[str], folder: Path) -> tuple[int, int]:
    """Train and ask the same in production; `astray run emergent-misalignment` does it for all arms and seeds."""
    subject = load_subject(train_sft(base, data, RECIPE, folder).subject)
    chats = [[{"role": "user", "content": one}] for one in asked]
    return rate(asked, [one.text for one in subject.generate(chats, Sampling(temperature=0, max_tokens=32))])


if __name__ == "__main__":
    base, asked = str(weights_folder("organism-small")), questions(140)
    for kind in (
        "harmful",
        "good",
    ):  # the control: the same training on good answers
        data = narrow_data(HOME, kind, 96)
        with TemporaryDirectory() as folder:
            found = plain(base, data, asked), production(base, data, asked, Path(folder))
        print(
            f"{kind}: misaligned elsewhere {found[0][0]} of {found[0][1]}, in production {found[1][0]} of {found[1][1]}"
        )
