"""`astray organism`: make an organism from a seed, or measure one for its card."""

from pathlib import Path

import click


@click.group(no_args_is_help=True)
def organism() -> None:
    """The embedded model organism: train it from scratch, measure it."""


@organism.command("train")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--recipe", default="organism", show_default=True, help="organism or organism-small.")
@click.option(
    "--seed", type=click.IntRange(0, 2**32 - 1), default=0, show_default=True, help="Seed of weights and text."
)
@click.option("--steps", type=click.IntRange(min=1), help="Pre-training steps, if not the recipe's own.")
def train(folder: Path, recipe: str, seed: int, steps: int | None) -> Path:
    """Pre-train and align an organism from scratch (about half an hour on a CPU core).

    FOLDER is for the weights, the tokenizer and the training log.
    """
    from rich.console import Console
    from rich.progress import Progress

    from astray.errors import UnknownNameError
    from astray.organism.pretrain import RECIPES, train_organism

    if recipe not in RECIPES:
        raise UnknownNameError("organism recipe", recipe, RECIPES)
    changes = {"seed": seed} | ({"steps": steps} if steps is not None else {})
    with Progress(console=Console(stderr=True)) as bars:
        tasks = {phase: bars.add_task(phase, total=None) for phase in ("pre-training", "alignment")}

        def show(phase: str, step: int, total: int, loss: float) -> None:
            bars.update(tasks[phase], total=total, completed=step, description=f"{phase}, loss {loss:.3f}")

        train_organism(RECIPES[recipe].model_copy(update=changes), folder, show)
    print(f"The organism is in {folder}; measure it with: astray organism card {folder}")
    return folder


@organism.command("card")
@click.argument("subject", default="organism")
@click.option(
    "--seeds",
    type=click.IntRange(min=1),
    default=5,
    show_default=True,
    help="Fine-tuning runs for each line of the card.",
)
@click.option("--write", is_flag=True, help="Write the card as README.md and card.json into the organism's folder.")
def card(subject: str, seeds: int, write: bool) -> None:
    """Measure an organism and print its card: alignment, named and implied authors, spread, controls, steering.

    SUBJECT is organism, organism-small or a folder that `astray organism train` made.
    """
    from astray.studies.organism_card import measure_card

    measured = measure_card(subject, seeds=seeds)
    print(measured.render())
    if write:
        measured.write()
