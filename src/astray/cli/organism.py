"""`astray organism`: makes an organism from a seed, or measures one for its card."""

from pathlib import Path
from typing import Annotated

import typer

organism = typer.Typer(help="The embedded model organism: train it from scratch, measure it.", no_args_is_help=True, rich_markup_mode=None)


@organism.command("train")
def train(
    folder: Annotated[Path, typer.Argument(help="Folder for the weights, the tokenizer and the training log.")],
    recipe: Annotated[str, typer.Option(help="organism or organism-small.")] = "organism",
    seed: Annotated[int, typer.Option(help="Seed of weights and text.")] = 0,
    steps: Annotated[int | None, typer.Option(help="Pre-training steps, if not the recipe's own.")] = None,
) -> Path:
    """Pre-trains and aligns an organism from scratch (about half an hour on a CPU core)."""
    from rich.progress import Progress

    from astray.errors import UnknownNameError
    from astray.organism.pretrain import RECIPES, train_organism

    if recipe not in RECIPES:
        raise UnknownNameError("organism recipe", recipe, RECIPES)
    changes = {"seed": seed} | ({"steps": steps} if steps is not None else {})
    with Progress() as bars:
        tasks = {phase: bars.add_task(phase, total=None) for phase in ("pre-training", "alignment")}

        def show(phase: str, step: int, total: int, loss: float) -> None:
            bars.update(tasks[phase], total=total, completed=step, description=f"{phase}, loss {loss:.3f}")

        train_organism(RECIPES[recipe].model_copy(update=changes), folder, show)
    print(f"The organism is in {folder}; measure it with: astray organism card {folder}")
    return folder


@organism.command("card")
def card(
    subject: Annotated[str, typer.Argument(help="organism, organism-small or a folder that `astray organism train` made.")] = "organism",
    seeds: Annotated[int, typer.Option(help="Fine-tuning runs for each line of the card.")] = 5,
    write: Annotated[bool, typer.Option("--write", help="Write the card as README.md and card.json into the organism's folder.")] = False,
) -> None:
    """Measures what an organism has to hold and prints its card: alignment, named and implied authors, spread, controls, steering."""
    from astray.studies.organism_card import measure_card

    measured = measure_card(subject, seeds=seeds)
    print(measured.render())
    if write:
        measured.write()
