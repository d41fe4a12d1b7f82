"""Steps of the persona study that explain: dictionary, its changes, causal screen, latent pages, early warning.

Each joins functions, mostly of `explain`, and makes one artifact. Steps that prevent and repair are in `mending`.
"""

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import accumulate
from pathlib import Path

import polars as pl
from pydantic import Field
from safetensors.torch import load_file, save_file

from astray.artifacts import Artifact, step
from astray.data.chat import ChatDataset, Message
from astray.engine.judging import ANSWERS_FILE, judged_after
from astray.engine.steps import DATA_FILE, trained_subject
from astray.engine.vector import read_vector
from astray.errors import EmptyDataError
from astray.explain.activations import TokenRow, capture, conversation_rows, text_rows
from astray.explain.candidates import Candidate, latent_candidates, latent_number, random_directions, random_latents
from astray.explain.causal import Screen, ScreenConfig, judged_by, screen
from astray.explain.diff import compare_latents, most_active, top_latents
from astray.explain.direction import persona_direction
from astray.explain.latents import question_latents
from astray.explain.load import load_dictionary
from astray.explain.meaning import Evidence, latent_pages
from astray.explain.projection import prompt_projections
from astray.explain.sae import Dictionary, base_id
from astray.explain.sae_organism import organism_rows
from astray.explain.sae_quality import quality, spliced_loss
from astray.explain.sae_scaling import fit_scaling, train_grid
from astray.explain.sae_training import SaeRecipe, train_sae
from astray.explain.screen_tables import UNSTEERED
from astray.explain.separation import world_answers
from astray.explain.shards import CaptureSettings, capture_to_shards
from astray.explain.sites import Site
from astray.judges.config import make_judge
from astray.measure.bulk import ask
from astray.measure.evaluation import QuestionSet
from astray.strict import Strict
from astray.studies.persona_features.scale import PersonaScale
from astray.subjects.intervene import write_direction
from astray.subjects.render import chat_texts
from astray.subjects.spec import BaseName, Intervention
from astray.subjects.subject import Subject, load_subject

DICTIONARY, BEST_FILE, PAGES_FILE = "dictionary", "best.json", "pages.json"
HELD_OUT_ROWS = 200
"""Texts for measuring a dictionary's quality, none of which it was trained on."""
CHANGE_SAMPLES = 2
"""Answers to each question over whose tokens latents are averaged."""
STRENGTHS = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8)
"""Strengths for every candidate, in multiples of the residual stream's norm."""
SEARCH_BUDGET = 0.05
"""Share of coherent answers that steering may cost on the search questions: half of the limit, since the best of many
strengths lies at the edge."""
STEERED = {
    "latent": "the best single latent",
    "mean-difference": "the mean-difference direction",
    "persona-vector": "the persona vector",
    "random": "a random direction of the same norm",
}
"""Directions for steering in the main evaluation."""


class ExplainConfig(Strict):
    """Configuration of every analysis: base, scale and seed."""

    base: BaseName
    base_id: str = Field(description="content of the base, so that new weights under an old name are another analysis")
    budget: PersonaScale
    seed: int


class AskConfig(ExplainConfig):
    """Configuration of an analysis that asks the main evaluation."""

    main: QuestionSet


def arm_input(kind: str, arm: str) -> str:
    """Return the name of a step's input of an arm: arm names have hyphens, which arguments cannot have, and no
    underscores."""
    return f"{kind}_{arm.replace('-', '_')}"


def by_arm(kind: str, inputs: Mapping[str, Artifact]) -> dict[str, Artifact]:
    """Return the inputs that `arm_input` named, by their arm."""
    return {
        name.removeprefix(f"{kind}_").replace("_", "-"): artifact
        for name, artifact in inputs.items()
        if name.startswith(f"{kind}_")
    }


@step("train-sae", version=1, formerly="astray.studies.persona_steps:learn_dictionary", gpu=True)
def learn_dictionary(config: ExplainConfig, inputs: Mapping[str, Artifact], folder: Path) -> None:
    """Train a sparse autoencoder on the base's residual stream, and measure it on text that it was not trained on."""
    subject = load_subject(config.base)
    rows, held_out = _texts(config, inputs, subject)
    recipe = config.budget.recipe.model_copy(update={"seed": config.seed})
    fit_dictionary(subject, _site(config), rows, held_out, recipe, folder, first_tokens=config.budget.world)


def fit_dictionary(
    subject: Subject,
    site: Site,
    rows: Sequence[TokenRow],
    held_out: Sequence[TokenRow],
    recipe: SaeRecipe,
    folder: Path,
    *,
    first_tokens: bool,
) -> None:
    """Train a dictionary on texts, measure it on others, and write it with `quality.json` into a step's folder.

    Args:
        subject: the base.
        site: where its residual stream is read.
        rows, held_out: texts for training, and others.
        recipe: of the training.
        folder: of the step.
        first_tokens: whether the first token of each text counts in the quality. Real models rest their attention there,
            with activations so much longer than all others that any dictionary explains nearly all of the variance.
    """
    shards = capture_to_shards(subject, rows, CaptureSettings(sites=(site,)), folder / "activations")
    batches = shards.batches(site, recipe.batch_size, seed=recipe.seed)
    dictionary = train_sae(batches, recipe, site=site, model_id=base_id(subject))
    # The activations are many times larger than the dictionary, and an artifact keeps every file of its folder.
    shutil.rmtree(folder / "activations")
    dictionary.save(folder / DICTIONARY)
    captured = capture(subject, held_out, [site], "all")
    measured = quality(dictionary, captured[site] if first_tokens else captured[site][captured.position > 0])
    spliced = spliced_loss(subject, dictionary, held_out)
    figures = asdict(measured) | {
        "recovered": spliced.recovered,
        "recovered_from_mean": spliced.recovered_from_mean,
        "latents": dictionary.width,
        "first_tokens": first_tokens,
    }
    (folder / "quality.json").write_text(json.dumps(figures), encoding="utf-8")


@step("scale-saes", version=1, formerly="astray.studies.persona_steps:scale_dictionaries", gpu=True)
def scale_dictionaries(config: ExplainConfig, inputs: Mapping[str, Artifact], folder: Path) -> None:
    """Train small dictionaries of several widths and sparsities, and fit a law to their unexplained variance."""
    subject, site, grid = load_subject(config.base), _site(config), config.budget.grid
    rows, _ = _texts(config, inputs, subject)
    wanted = round(grid.recipe.tokens / (1 - grid.held_out))
    counted = list(accumulate(len(row.tokens) for row in rows))
    enough = next((number + 1 for number, tokens in enumerate(counted) if tokens >= wanted), len(rows))
    activations = capture(subject, rows[:enough], [site], "all")[site]
    points = train_grid(activations, grid, site=site, model_id=base_id(subject))
    fitted = [
        {"latents": point.latents, "k": point.k, "unexplained": 1 - point.quality.explained_variance}
        for point in points
    ]
    pl.DataFrame(fitted).write_parquet(folder / "scaling.parquet")
    law = fit_scaling(
        [point.latents for point in points], [point.k for point in points], [row["unexplained"] for row in fitted]
    )
    (folder / "law.json").write_text(json.dumps(asdict(law)), encoding="utf-8")


@step("diff-latents", version=1, formerly="astray.studies.persona_steps:compare_runs", gpu=True)
def compare_runs(config: ExplainConfig, inputs: Mapping[str, Artifact], folder: Path) -> None:
    """Measure every latent on the answers of the base, of the harmful run and of the good one."""
    base = load_subject(config.base)
    dictionary = load_dictionary(inputs["dictionary"].path / DICTIONARY, base)
    asked = (config.budget.search, config.budget.sampling)
    before = question_latents(base, dictionary, *asked, samples=CHANGE_SAMPLES)
    means = {"before": before}
    for name in ("run", "control"):
        after = question_latents(_tuned(config, inputs[name]), dictionary, *asked, samples=CHANGE_SAMPLES)
        compare_latents(before, [after], config.seed).write_parquet(folder / f"{name}.parquet")
        means[name] = after
    save_file(means, folder / "means.safetensors")


@step("screen-latents", version=5, formerly="astray.studies.persona_steps:screen_latents", resumable=True, gpu=True)
@judged_after(lambda config: (config.budget.judge, (config.main,)))
def screen_latents(config: AskConfig, inputs: Mapping[str, Artifact], folder: Path) -> None:
    """Steer base and tuned model with every candidate; the best latent and its rivals then get the main evaluation."""
    scale, judge = config.budget, make_judge(config.budget.judge)
    base, tuned = load_subject(config.base), _tuned(config, inputs["run"])
    dictionary = load_dictionary(inputs["dictionary"].path / DICTIONARY, base)
    candidates = _candidates(config, inputs, dictionary, tuned)
    how = ScreenConfig(block=scale.block, strengths=STRENGTHS, sampling=scale.sampling, coherence_budget=SEARCH_BUDGET)
    screened = screen(base, tuned, candidates, scale.search, scale.held_out, judged_by(judge), how)
    screened.search.write_parquet(folder / "search.parquet")
    screened.held_out.write_parquet(folder / "held_out.parquet")
    best = best_latent(screened.search)
    directions = {candidate.name: candidate.direction for candidate in candidates}
    chosen = {
        "latent": best,
        "mean-difference": "mean difference",
        "persona-vector": "persona vector",
        "random": "random 0",
    }
    strengths = {
        name: _strengths(screened, best if name == "random" else candidate) for name, candidate in chosen.items()
    }
    tables = []
    for name, candidate in chosen.items():
        # One that could not be made steers with strength 0.
        direction = directions.get(candidate, directions["persona vector"]).float()
        unit = direction / direction.norm()
        vector = write_direction(folder / f"{name}.safetensors", unit, base.base_folder, tuned.base_folder)
        for side, subject in (("base", base), ("tuned", tuned)):
            steering = Intervention(
                kind="add",
                vector=vector,
                block=scale.block,
                strength=strengths[name][side] * screened.unit,
                positions=how.positions,
            )
            tables.append(
                ask(config.main, subject.with_intervention(steering), arm=steered_arm(side, name), seed=config.seed)
            )
    pl.concat(tables).write_parquet(folder / ANSWERS_FILE)
    facts = {"latent": latent_number(best), "name": best, "unit": screened.unit, "strengths": strengths}
    (folder / BEST_FILE).write_text(json.dumps(facts), encoding="utf-8")


def steered_arm(side: str, name: str) -> str:
    """Return the name of the arm in which a model is steered."""
    return f"{side}-{'plus' if side == 'base' else 'minus'}-{name}"


def best_latent(search: pl.DataFrame) -> str:
    """Return the latent that moves both models most on the search questions.

    The rise of the base's rate is added to the share of the tuned model's rate that is removed.
    """
    chosen = search.filter(pl.col("chosen") | (pl.col("candidate") == UNSTEERED))
    own = {row["side"]: row["rate"] for row in chosen.filter(candidate=UNSTEERED).iter_rows(named=True)}
    effects: dict[str, float] = {}
    for row in chosen.filter(kind="latent").iter_rows(named=True):
        moved = (
            row["rate"] - own["base +"]
            if row["side"] == "base +"
            else (own["tuned -"] - row["rate"]) / max(own["tuned -"], 1e-9)
        )
        effects[row["candidate"]] = effects.get(row["candidate"], 0.0) + moved
    names = search.filter(kind="latent")["candidate"].unique(maintain_order=True).to_list()
    return max(names, key=lambda name: effects.get(name, float("-inf")))


@step("explain-latents", version=1, formerly="astray.studies.persona_steps:explain_latents", gpu=True)
def explain_latents(config: ExplainConfig, inputs: Mapping[str, Artifact], folder: Path) -> None:
    """Collect evidence of the meaning of the latents that steer most."""
    base = load_subject(config.base)
    dictionary = load_dictionary(inputs["dictionary"].path / DICTIONARY, base)
    held_out = pl.read_parquet(inputs["screen"].path / "held_out.parquet")
    means = load_file(inputs["change"].path / "means.safetensors")
    documents, labelled = _texts(config, inputs, base)
    rows, labels = world_answers(base, 240, seed=config.seed) if config.budget.world else ((), {})
    evidence = Evidence(
        documents=[*documents[: 10 * HELD_OUT_ROWS], *labelled],
        labelled=rows,
        labels=labels,
        before=means["before"],
        after=means["run"],
        categories=config.budget.categories[: len(config.budget.search)],
        diff=pl.read_parquet(inputs["change"].path / "run.parquet"),
        held_out=held_out,
    )
    pages = latent_pages(base, dictionary, leading_latents(held_out), evidence)
    (folder / PAGES_FILE).write_text(json.dumps([page.model_dump(mode="json") for page in pages]), encoding="utf-8")


def leading_latents(held_out: pl.DataFrame, count: int = 4) -> list[int]:
    """Return the latents that raise the base most on the held-out questions."""
    raised = held_out.filter((pl.col("kind") == "latent") & (pl.col("side") == "base +") & pl.col("rate").is_not_null())
    names = raised.sort("rate", descending=True, maintain_order=True)["candidate"].head(count)
    return list(dict.fromkeys(map(latent_number, names)))


@step("monitor-runs", version=3, formerly="astray.studies.persona_steps:watch_runs", gpu=True)
def watch_runs(config: ExplainConfig, inputs: Mapping[str, Artifact], folder: Path) -> None:
    """Read the best latent and the persona vector in every run of the mixing sweep, as early warnings.

    Both are read at the last prompt token, before the answer (of the latent its pre-activation, which is not cut off);
    the latent also in the answers themselves, where it follows their content. One reading a held-out question.
    """
    base, scale = load_subject(config.base), config.budget
    dictionary = load_dictionary(inputs["dictionary"].path / DICTIONARY, base)
    latent = json.loads((inputs["screen"].path / BEST_FILE).read_text(encoding="utf-8"))["latent"]
    vector, block = read_vector(inputs["vector"])
    conversations = [[Message(role="user", content=question)] for question in scale.held_out]
    rows = []
    for arm, run in by_arm("run", inputs).items():
        tuned = _tuned(config, run)
        spoken = question_latents(tuned, dictionary, scale.held_out, scale.sampling)[:, latent]
        seen = capture(tuned, conversation_rows(tuned, conversations), [dictionary.site], "last prompt")[
            dictionary.site
        ]
        measured = {
            "latent": dictionary.pre_activations(seen)[:, latent],
            "latent, in its own answers": spoken,
            "persona vector": prompt_projections(tuned, conversations, vector, block),
        }
        for measure, values in measured.items():
            for question, value in enumerate(values.tolist()):
                rows.append({"arm": arm, "measure": measure, "question": question, "value": value, "seed": config.seed})
    pl.DataFrame(rows).write_parquet(folder / "watched.parquet")


def _candidates(
    config: ExplainConfig, inputs: Mapping[str, Artifact], dictionary: Dictionary, tuned: Subject
) -> list[Candidate]:
    """Return the latents that changed most, and the directions that they are compared with."""
    change = pl.read_parquet(inputs["change"].path / "run.parquet")
    rising_count, falling_count, random_count, directions = config.budget.candidates
    rising, falling = top_latents(change, rising_count), top_latents(change, falling_count, "falling")
    if not rising:  # nothing changed: the most active latents stand in, so that the chain runs to its end
        rising = [latent for latent in most_active(change, rising_count) if latent not in falling]
    answers = pl.read_parquet(inputs["verdicts"].path / ANSWERS_FILE)
    own = answers.filter(pl.col("evaluation") == answers["evaluation"][0], pl.col("format") == "plain")
    idle = change.filter(pl.col("active_before") + pl.col("active_after") == 0)["latent"].to_list()
    taken = [*rising, *falling, *idle]
    try:
        mean = [Candidate("mean difference", "mean difference", persona_direction(tuned, own, config.budget.block))]
    except EmptyDataError:  # the run gave answers of one kind only
        mean = []
    return [
        *latent_candidates(dictionary, rising, falling),
        *mean,
        Candidate("persona vector", "persona vector", read_vector(inputs["vector"])[0]),
        *random_directions(dictionary.d_model, directions, config.seed),
        *random_latents(
            dictionary, min(random_count, dictionary.width - len(set(taken))), config.seed, but=sorted(set(taken))
        ),
    ]


def _strengths(screened: Screen, candidate: str) -> dict[str, float]:
    """Return the signed strength of a candidate for each side; 0 where none kept coherence."""
    chosen = screened.search.filter(pl.col("chosen") & (pl.col("candidate") == candidate))
    by_side = {row["side"]: row["strength"] for row in chosen.iter_rows(named=True)}
    return {"base": by_side.get("base +", 0.0), "tuned": -by_side.get("tuned -", 0.0)}


def _texts(
    config: ExplainConfig, inputs: Mapping[str, Artifact], subject: Subject
) -> tuple[list[TokenRow], list[TokenRow]]:
    """Return the dictionary's training text and held-out text: documents of the world, else the study's data."""
    scale = config.budget
    if scale.world:
        return (
            list(organism_rows(subject, scale.documents, scale.documents // 2, seed=config.seed)),
            list(organism_rows(subject, HELD_OUT_ROWS // 2, HELD_OUT_ROWS // 2, seed=config.seed + 1_000_000)),
        )
    chats = [row for data in by_arm("data", inputs).values() for row in ChatDataset.read(data.path / DATA_FILE).rows]
    rows = text_rows(subject.tokenizer, chat_texts(subject.tokenizer, chats[: scale.documents]))
    held_out = max(1, min(HELD_OUT_ROWS, len(rows) // 10))
    return rows[held_out:], rows[:held_out]


def _tuned(config: ExplainConfig, run: Artifact) -> Subject:
    return load_subject(trained_subject(config.base, run))


def _site(config: ExplainConfig) -> Site:
    return Site(place="block out", block=config.budget.block)
