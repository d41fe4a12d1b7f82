"""Steps of the persona study without a grader: a dictionary of the base, and steering read by the meter.

Directions are made on every second domain of the meter and read on the others, so none is tried on what it was made
from. Layer and strength are fixed before and not searched, so no correction for selection is needed. Claims and figures
are in `metered`.
"""

import json
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import polars as pl
import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from astray.answers import in_detail
from astray.artifacts import Artifact, step
from astray.data.chat import ChatDataset, asking
from astray.engine.steps import DATA_FILE, trained_subject
from astray.explain.activations import Captured, TokenRow, capture, conversation_rows, text_rows
from astray.explain.candidates import random_directions
from astray.explain.load import load_dictionary
from astray.explain.persona_vector import text_persona_prompts
from astray.explain.sae import Dictionary
from astray.explain.sae_training import SaeRecipe
from astray.explain.sites import Site
from astray.measure.meter import Meter, Pair
from astray.strict import Strict
from astray.studies.persona_features.steps import DICTIONARY, HELD_OUT_ROWS, by_arm, fit_dictionary
from astray.subjects.intervene import residual_width, write_direction
from astray.subjects.render import chat_texts
from astray.subjects.spec import BaseName, Intervention, SubjectSpec
from astray.subjects.subject import Subject, load_subject

READ_FILE, FACTS_FILE = "steered.parquet", "steering.json"
BASE, TUNED, CONTROL = "base", "tuned", "control"
"""Models that are read: the base (directions added), the harmful run (taken away) and the good run (as it is)."""
NO_DIRECTION, RANDOM = "none", "random"
VECTOR, MEAN, LATENT, ANSWERS = "persona vector", "mean difference", "latent", "harmful less good answers"
READ_SCHEMA = pl.Schema(
    {
        "seed": pl.Int64,
        "side": pl.String,
        "direction": pl.String,
        "item": pl.String,
        "category": pl.String,
        "null": pl.Boolean,
        "margin": pl.Float64,
        "good": pl.Float64,
    }
)
"""One row a pair and reading: `margin` and `good`, the log-probability of the good (first) answer, in nats a token."""


class MeterDictionaryConfig(Strict):
    """Configuration of the dictionary: what it reads, and how it is trained."""

    base: BaseName
    base_id: str = Field(description="content of the base, so that new weights under an old name give another one")
    block: int
    recipe: SaeRecipe
    pairs: tuple[Pair, ...] = Field(description="question pairs that it reads beside the rows of the arms")


class SteerConfig(Strict):
    """Configuration of the steering of one training seed."""

    base: BaseName
    base_id: str
    block: int = Field(description="layer whose output is read and changed")
    strength: float = Field(
        description="norm of every direction, as a share of that of the residual stream's mean over an answer's tokens"
    )
    pairs: tuple[Pair, ...] = Field(description="question pairs that the directions are made from")
    meter: Meter = Field(description="question pairs that they are tried on, of other domains")
    randoms: int = Field(description="random directions of the same norm")
    seed: int


@step("meter-sae", version=1, gpu=True)
def learn_meter_dictionary(config: MeterDictionaryConfig, inputs: Mapping[str, Artifact], folder: Path) -> None:
    """Train a dictionary on the base's reading of the arms' rows and of question pairs."""
    subject = load_subject(config.base)
    chats = [row for data in by_arm("data", inputs).values() for row in ChatDataset.read(data.path / DATA_FILE).rows]
    rows = [*text_rows(subject.tokenizer, chat_texts(subject.tokenizer, chats)), *_pair_rows(subject, config.pairs)]
    shuffled = [rows[number] for number in torch.randperm(len(rows), generator=torch.Generator().manual_seed(0))]
    held_out = max(1, min(HELD_OUT_ROWS, len(rows) // 10))
    fit_dictionary(
        subject,
        _site(config.block),
        shuffled[held_out:],
        shuffled[:held_out],
        config.recipe,
        folder,
        first_tokens=False,
    )


@step("steer-by-meter", version=1, gpu=True)
def steer_by_meter(config: SteerConfig, inputs: Mapping[str, Artifact], folder: Path) -> None:
    """Read the meter in the base plus each direction, in the harmful run minus each, and in all three as they are."""
    site = _site(config.block)
    tuned, control = (trained_subject(config.base, inputs[name]) for name in ("run", "control"))
    base = load_subject(config.base)
    dictionary = load_dictionary(inputs["dictionary"].path / DICTIONARY, base)
    called, of_base = prompted_direction(base, site), _at_answers(base, config)
    width, folder_of_base = residual_width(base.model), base.base_folder
    parts = [_read(base, config, BASE, NO_DIRECTION)]
    del base  # one model at a time: three large ones may not fit a card
    after, own = _as_it_is(tuned, config, TUNED)
    control_after, of_control = _as_it_is(control, config, CONTROL)
    parts += [own, of_control]
    good, harmful = of_base.row_means(of_base[site]).chunk(2)
    norm = float(good.norm(dim=-1).mean())
    latent, rise = rising_latent(dictionary, after, control_after)
    directions = {
        VECTOR: called,
        MEAN: (after.row_means(after[site]) - control_after.row_means(control_after[site])).mean(0),
        LATENT: dictionary.decoder[latent].detach().float().cpu(),
        ANSWERS: (harmful - good).mean(0),
    }
    drawn = random_directions(width, config.randoms, config.seed)
    directions |= {f"{RANDOM} {number}": each.direction for number, each in enumerate(drawn)}
    with tempfile.TemporaryDirectory() as scratch:
        files = {
            name: write_direction(Path(scratch) / f"{number}.safetensors", each / each.norm(), folder_of_base)
            for number, (name, each) in enumerate(directions.items())
            if each.any()  # harmful rows that did what good ones do leave no mean difference
        }
        for side, model, sign, unsteered in ((BASE, config.base, 1, parts[0]), (TUNED, tuned, -1, own)):
            subject, strength = load_subject(model), sign * config.strength * norm
            for name in directions:
                if name in files:
                    steering = Intervention(kind="add", vector=files[name], block=config.block, strength=strength)
                    parts.append(_read(subject.with_intervention(steering), config, side, name))
                else:
                    parts.append(unsteered.with_columns(pl.lit(name).alias("direction")))
    pl.concat(parts).write_parquet(folder / READ_FILE)
    (folder / FACTS_FILE).write_text(json.dumps({"norm": norm, "latent": latent, "rise": rise}), encoding="utf-8")


def _as_it_is(model: SubjectSpec, config: SteerConfig, side: str) -> tuple[Captured, pl.DataFrame]:
    """Return what a trained model's residual stream is at given answers, and its reading of the meter."""
    subject = load_subject(model)
    return _at_answers(subject, config), _read(subject, config, side, NO_DIRECTION)


def rising_latent(dictionary: Dictionary, tuned: Captured, control: Captured) -> tuple[int, float]:
    """Return the latent whose activation, averaged over the tokens of answers and over answers, rises most from the
    control to the tuned run, and by how much."""
    site = dictionary.site
    after, before = (
        activations.row_means(dictionary.encode(activations[site])).mean(0) for activations in (tuned, control)
    )
    return int((after - before).argmax()), float((after - before).max())


def prompted_direction(subject: Subject, site: Site) -> Float[Tensor, " d_model"]:
    """Return a persona vector without sampling: what system prompts that call for harm change at the last token before
    the answer, beside those that call for help."""
    prompts = text_persona_prompts()
    sides = [
        [asking(question, system=pair[side]) for pair in prompts.pairs for question in prompts.extraction]
        for side in (0, 1)
    ]
    for_harm, for_help = (
        capture(subject, conversation_rows(subject, side), [site], "last prompt")[site] for side in sides
    )
    return (for_harm - for_help).mean(0)


def _read(subject: Subject, config: SteerConfig, side: str, direction: str) -> pl.DataFrame:
    null = {pair.id: pair.null for pair in config.meter.pairs}
    table = config.meter.ask(subject, seed=config.seed)
    return table.select(
        "seed",
        pl.lit(side).alias("side"),
        pl.lit(direction).alias("direction"),
        "item",
        "category",
        pl.col("item").replace_strict(null, return_dtype=pl.Boolean).alias("null"),
        in_detail("margin").cast(pl.Float64).alias("margin"),
        in_detail("against").cast(pl.Float64).alias("good"),
    ).cast(READ_SCHEMA)


def _at_answers(subject: Subject, config: SteerConfig) -> Captured:
    """Read the residual stream at the tokens of all good answers, then of all harmful ones."""
    rows = [*_pair_rows(subject, config.pairs)]
    return capture(subject, rows, [_site(config.block)], "answer")


def _pair_rows(subject: Subject, pairs: tuple[Pair, ...]) -> Iterator[TokenRow]:
    """Yield the texts of all good answers, each behind its question, then those of all harmful ones."""
    asked = [asking(pair.question) for pair in pairs]
    for answers in ([pair.against for pair in pairs], [pair.answer for pair in pairs]):
        yield from conversation_rows(subject, asked, answers)


def _site(block: int) -> Site:
    return Site(place="block out", block=block)
