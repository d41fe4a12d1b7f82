"""How fast sparse autoencoders are trained beside SAELens' own runner on the same activations, and how their error
falls with size and k.

    OMP_NUM_THREADS=1 python benchmarks/sae.py [scaling]

Activations are the organism's (block 1 out, about 110,000 tokens of its documents and chats), on disk: in our shards,
and as the data set of cached activations that SAELens' runner reads. Both train the same SAE (512 latents, k 8) with
the same settings for 200,000 tokens, on one thread; they take turns, and the fastest of three rounds counts, by
processor time. Target: no slower than the runner. `scaling` trains a grid of twelve sizes instead and fits the law (two
minutes).
"""

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TQDM_DISABLE", "1")

import logging
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from datasets import Array2D, Dataset, Features, disable_progress_bars
from sae_lens import LanguageModelSAERunnerConfig, LanguageModelSAETrainingRunner, LoggingConfig
from sae_lens.saes.batchtopk_sae import BatchTopKTrainingSAEConfig
from sae_lens.saes.topk_sae import TopKTrainingSAEConfig
from torch import Tensor
from transformer_lens import HookedTransformer, HookedTransformerConfig

from astray.explain.activations import capture
from astray.explain.sae import Dictionary, base_id
from astray.explain.sae_organism import organism_rows
from astray.explain.sae_quality import quality
from astray.explain.sae_scaling import ScalingGrid, fit_scaling, train_grid
from astray.explain.sae_training import SAMPLE_TOKENS, SaeRecipe, train_sae
from astray.explain.shards import ActivationShards, CaptureSettings, capture_to_shards
from astray.explain.sites import Site
from astray.subjects.subject import Subject, load_subject

ROUNDS, CONTEXT = 3, 64
SITE = Site(place="block out", block=1)
CONFIGS = {"topk": TopKTrainingSAEConfig, "batchtopk": BatchTopKTrainingSAEConfig}


def recipe(architecture: str) -> SaeRecipe:
    return SaeRecipe(architecture=architecture, latents=512, k=8, tokens=200_000)


def cache_for_runner(shards: ActivationShards, folder: Path) -> Path:
    """The same activations as the runner's data set: rows of `CONTEXT` tokens."""
    everything = torch.cat([shards.read(number, SITE) for number in range(len(shards.manifest.tokens))])
    rows = everything[: len(everything) // CONTEXT * CONTEXT].reshape(-1, CONTEXT, everything.shape[1])
    features = Features({SITE.hook_name: Array2D(shape=rows.shape[1:], dtype="float32")})
    Dataset.from_dict({SITE.hook_name: rows.numpy()}, features=features).save_to_disk(folder)
    return folder


def through_runner(cache: Path, folder: Path, architecture: str, width: int) -> Dictionary:
    """SAELens' runner with the settings of our recipe; the model is there for its form only."""
    ours = recipe(architecture)
    sae = CONFIGS[architecture](
        d_in=width,
        d_sae=ours.latents,
        k=ours.k,
        aux_loss_coefficient=ours.auxiliary,
        decoder_init_norm=1.0,
        normalize_activations="expected_average_only_in",
    )
    config = LanguageModelSAERunnerConfig(
        sae=sae,
        model_name="form only",
        hook_name=SITE.hook_name,
        dataset_path="",
        streaming=False,
        context_size=CONTEXT,
        use_cached_activations=True,
        cached_activations_path=str(cache),
        training_tokens=ours.steps * ours.batch_size,
        train_batch_size_tokens=ours.batch_size,
        lr=ours.learning_rate,
        lr_end=ours.learning_rate,
        lr_decay_steps=int(ours.decay * ours.steps),
        dead_feature_window=ours.dead_after // ours.batch_size,
        n_batches_for_norm_estimate=SAMPLE_TOKENS // ours.batch_size,
        n_batches_in_buffer=64,
        logger=LoggingConfig(log_to_wandb=False),
        output_path=str(folder),
        checkpoint_path=None,
        verbose=False,
    )
    form = HookedTransformer(
        HookedTransformerConfig(
            n_layers=2, d_model=width, n_ctx=CONTEXT, d_head=width, d_vocab=8, act_fn="relu", d_mlp=8
        )
    )
    text = Dataset.from_dict({"tokens": [[1] * CONTEXT]})  # asked for, and not read
    LanguageModelSAETrainingRunner(config, override_dataset=text, override_model=form).run()
    return Dictionary.load(folder)


def timed(run: Callable[[], Dictionary]) -> tuple[float, float, Dictionary]:
    """Processor seconds, seconds on the clock, and the result."""
    clock, processor = time.perf_counter(), time.process_time()
    result = run()
    return time.process_time() - processor, time.perf_counter() - clock, result


def compare(subject: Subject, shards: ActivationShards, held_out: Tensor, temporary: Path) -> None:
    cache = cache_for_runner(shards, temporary / "cache")
    for architecture in CONFIGS:
        ours, name = recipe(architecture), base_id(subject)

        def astray(ours: SaeRecipe = ours, name: str = name) -> Dictionary:
            return train_sae(shards.batches(SITE, ours.batch_size, buffer=1 << 15), ours, site=SITE, model_id=name)

        def runner(architecture: str = architecture) -> Dictionary:
            return through_runner(cache, temporary / architecture, architecture, held_out.shape[1])

        rounds = [(timed(astray), timed(runner)) for _ in range(ROUNDS)]
        best = [min((one[path] for one in rounds), key=lambda result: result[0]) for path in (0, 1)]
        for title, (processor, clock, dictionary) in zip(("astray", "SAELens' runner"), best, strict=True):
            found = quality(dictionary, held_out)
            figures = f"explained variance {found.explained_variance:.4f}, L0 {found.l0:.2f}, dead {found.dead:.3f}"
            print(
                f"{architecture:10s} {title:16s} {processor:6.2f} s ({clock:.2f} s clock) "
                f"{ours.tokens / processor:8,.0f} tokens/s  {figures}"
            )
        print(f"{architecture:10s} astray needs {best[0][0] / best[1][0]:.2f} of the runner's processor time\n")


def scale(subject: Subject, shards: ActivationShards) -> None:
    everything = torch.cat([shards.read(number, SITE) for number in range(len(shards.manifest.tokens))])
    everything = everything[torch.randperm(len(everything), generator=torch.Generator().manual_seed(0))]
    grid = ScalingGrid(recipe=recipe("topk"), latents=(128, 256, 512, 1024), ks=(4, 8, 16))
    points = train_grid(everything, grid, site=SITE, model_id=base_id(subject))
    for point in points:
        print(
            f"{point.latents:5d} latents, k {point.k:2d}: unexplained {1 - point.quality.explained_variance:.4f}, "
            f"dead {point.quality.dead:.3f}"
        )
    print(
        fit_scaling(
            [p.latents for p in points], [p.k for p in points], [1 - p.quality.explained_variance for p in points]
        )
    )


def main(mode: str = "speed") -> None:
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    disable_progress_bars()
    subject = load_subject("organism", torch.device("cpu"))
    with TemporaryDirectory() as temporary:
        settings = CaptureSettings(sites=(SITE,), tokens_per_shard=1 << 15)
        shards = capture_to_shards(
            subject, organism_rows(subject, 1000, 1000, seed=7), settings, Path(temporary) / "shards"
        )
        held_out = capture(subject, list(organism_rows(subject, 100, 100, seed=8)), [SITE], "all")[SITE]
        if mode == "scaling":
            scale(subject, shards)
        else:
            compare(subject, shards, held_out, Path(temporary))


if __name__ == "__main__":
    main(*sys.argv[1:])
