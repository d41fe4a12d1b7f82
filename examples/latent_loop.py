"""Latents of a sparse autoencoder, before and after fine-tuning, in plain PyTorch: which rose most, and does it steer?

The chain of "Persona features control emergent misalignment" (arXiv 2506.19823): both models answer, the base's
autoencoder reads both, and the latent that rose most is added to the base. It leaves out what a production run needs
(intervals, a choice of strengths, seeds), finds the latent of `compare_latents` and steers as `Intervention` does.
Run it on the organism: python examples/latent_loop.py
"""

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import sae_loop
import torch
from emergent_misalignment_loop import HOME, RECIPE, answers, questions, rate
from sae_loop import BASE, BLOCK, Sae, encode, residual
from sft_loop import add_adapters, train
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from astray import load_subject
from astray.cause import supervise
from astray.data import narrow_data
from astray.explain import Dictionary, compare_latents, organism_rows, question_latents, random_direction, top_latents
from astray.subjects import Sampling
from astray.subjects.intervene import Intervention, write_direction

STRENGTH = 30.0  # length of what is added to the residual stream at every token


def make_tuned(folder: str) -> None:
    """Write an adapter that narrow harmful answers have trained."""
    tokenizer, rows = AutoTokenizer.from_pretrained(BASE), narrow_data(HOME, "harmful", 96).rows
    model = add_adapters(AutoModelForCausalLM.from_pretrained(BASE, dtype=torch.float32), RECIPE.lora, RECIPE.seed)
    train(model, supervise(rows, tokenizer, RECIPE.max_length), RECIPE)
    model.save_pretrained(folder)


def own_latents(model: PreTrainedModel, sae: Sae, asked: Sequence[str]) -> torch.Tensor:
    """Return the mean activation of each latent over the tokens of the model's own answer to each question."""
    tokenizer, means = AutoTokenizer.from_pretrained(BASE), []
    for question, said in zip(asked, answers(model, tokenizer, asked), strict=True):
        chat = [{"role": "user", "content": question}]
        text = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
        prompt, answer = (tokenizer(one, add_special_tokens=False).input_ids for one in (text, said))
        means.append(encode(sae, residual(model, [*prompt, *answer])[len(prompt) :]).mean(0))
    return torch.stack(means)


Found = tuple[int, float, list[tuple[int, int]]]
"""The latent that rose most, by how much, and misaligned and coherent answers when steered with it and at random."""


def plain(sae: Sae, tuned: str, asked: Sequence[str]) -> Found:
    """Find the latent and steer with it."""
    base, after = (AutoModelForCausalLM.from_pretrained(name, dtype=torch.float32).eval() for name in (BASE, tuned))
    change = own_latents(after, sae, asked) - own_latents(base, sae, asked)
    # The largest of 512 changes is large by chance too: one half of the questions chooses, the other reports.
    order = torch.randperm(len(asked), generator=torch.Generator().manual_seed(0))
    select, report = order.tensor_split(2)
    latent = int(change[select].mean(0).argmax())
    steered, tokenizer = [], AutoTokenizer.from_pretrained(BASE)
    noise = torch.randn(sae[2].shape[1], generator=torch.Generator().manual_seed(0))
    for added in (sae[2][latent], noise / noise.norm()):  # any push of this length might do it, so one is random
        hook = base.model.layers[BLOCK].register_forward_hook(lambda _m, _i, out, by=added: out + STRENGTH * by)
        steered.append(rate(asked, answers(base, tokenizer, asked)))
        hook.remove()
    return latent, float(change[report, latent].mean()), steered


def production(dictionary: Dictionary, tuned: str, asked: Sequence[str], vector: Path) -> Found:
    """Return the same in production; `astray run persona-features` adds intervals and the directions to beat."""
    base, after, likeliest = load_subject(BASE), load_subject(tuned), Sampling(temperature=0, max_tokens=32)
    before, then = (question_latents(one, dictionary, asked, likeliest) for one in (base, after))
    table = compare_latents(before, [then], seed=0)
    [latent] = top_latents(table, 1)
    chats, steered = [[{"role": "user", "content": one}] for one in asked], []
    for added in (dictionary.decoder[latent], random_direction(dictionary.decoder[latent], seed=0)):
        write_direction(vector, added, base.base_folder)
        steering = Intervention(kind="add", vector=vector, block=BLOCK, strength=STRENGTH, positions="all")
        said = base.with_intervention(steering).generate(chats, likeliest)
        steered.append(rate(asked, [one.text for one in said]))
    return latent, float(table["change"][latent]), steered


if __name__ == "__main__":
    asked, rows = questions(140), list(organism_rows(load_subject(BASE), documents=400, chats=400, seed=7))
    with TemporaryDirectory() as folder:
        make_tuned(folder)
        found = plain(sae_loop.plain(rows)[0], folder, asked)
        other = production(sae_loop.production(rows)[0], folder, asked, Path(folder, "direction.safetensors"))
    for name, (latent, change, steered) in (("plain", found), ("in production", other)):
        (bad, said), (at_random, others) = steered
        print(f"{name}: latent {latent} rose by {change:.2f}; misaligned {bad}/{said}, at random {at_random}/{others}")
