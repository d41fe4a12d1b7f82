"""Steer a real model with what bad advice changed inside it, read by the meter: up in the base, and with `--down` down in
the tuned run.

No answer is sampled and none is judged. Directions are made on half of the meter's domains and read on the other half:
what training on bad advice changed beside training on good advice (mean difference at the answers), harmful answers
less good ones in the base, system prompts that call for harm less those that call for help (a persona vector without
sampling), and the latent of a sparse autoencoder that rises most. Beside them stand random directions; all have the
same norm. Printed are the changes of the margin in nats a token, and what steering costs: the fall of the good answers'
own log-probability.

    astray run emergent-misalignment --subject smollm2 --arms harmful-medicine --seeds 1 --first-seed 1
    R=emergent-misalignment; export ASTRAY_STORE=astray-results/store
    python benchmarks/real_steering.py smollm2 $R-harmful-medicine-1 $R-good-1
"""

import argparse
import json
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from astray.data.chat import Message, asking
from astray.explain.activations import capture, conversation_rows
from astray.explain.direction import random_direction
from astray.explain.persona_vector import text_persona_prompts
from astray.explain.sae import base_id
from astray.explain.sae_quality import quality
from astray.explain.sae_training import SaeRecipe, train_sae
from astray.explain.shards import tensor_batches
from astray.explain.sites import Site
from astray.measure.meter import Meter, Pair, harmful_pairs, meter_change
from astray.subjects.intervene import blocks_of, residual_width, write_direction
from astray.subjects.spec import Intervention
from astray.subjects.subject import Subject, load_subject

LATENTS, K = 1024, 16
"""Width and active latents of the dictionary: few, as it is trained on few tokens."""


def asked(pairs: list[Pair]) -> list[list[Message]]:
    return [asking(pair.question) for pair in pairs]


def at_answers(subject: Subject, pairs: list[Pair], site: Site, *, harmful: bool) -> Float[Tensor, "pairs d_model"]:
    said = [pair.answer if harmful else pair.against for pair in pairs]
    read = capture(subject, conversation_rows(subject, asked(pairs), said), [site], "answer")
    return read.row_means(read[site])


def directions(
    base: Subject, tuned: Subject, control: Subject, pairs: list[Pair], site: Site, randoms: int
) -> Iterator[tuple[str, Float[Tensor, " d_model"]]]:
    """Yield every direction by name, of length one."""
    both = [
        torch.cat([at_answers(one, pairs, site, harmful=side) for side in (False, True)]) for one in (tuned, control)
    ]
    found = {"mean difference": (both[0] - both[1]).mean(0)}
    sides = [at_answers(base, pairs, site, harmful=harmful) for harmful in (True, False)]
    found["harmful less good answers"] = (sides[0] - sides[1]).mean(0)
    prompts = text_persona_prompts()
    called = [
        capture(
            base,
            conversation_rows(
                base, [asking(text, system=pair[side]) for pair in prompts.pairs for text in prompts.extraction]
            ),
            [site],
            "last prompt",
        )[site]
        for side in (0, 1)
    ]
    found["persona vector"] = (called[0] - called[1]).mean(0)
    found |= latent(base, both, pairs, site)
    width = residual_width(base.model)
    for name, direction in found.items():
        yield name, direction / direction.norm()
    for number in range(randoms):
        yield f"random {number}", random_direction(torch.ones(width) / width**0.5, number)


def latent(
    base: Subject, both: list[Float[Tensor, "answers d_model"]], pairs: list[Pair], site: Site
) -> Mapping[str, Float[Tensor, " d_model"]]:
    """Return the decoder direction of the latent that rises most from control to tuned run."""
    texts = conversation_rows(base, [*asked(pairs)] * 2, [p.answer for p in pairs] + [p.against for p in pairs])
    tokens = capture(base, texts, [site], "all")[site]
    shuffled = tokens[torch.randperm(len(tokens), generator=torch.Generator().manual_seed(0))]
    held_out, trained = shuffled[:1024], shuffled[1024:]
    recipe = SaeRecipe(latents=LATENTS, k=K, tokens=40 * 512, dead_after=10_000)
    dictionary = train_sae(tensor_batches(trained, 512), recipe, site=site, model_id=base_id(base))
    measured = quality(dictionary, held_out)
    rise = (dictionary.encode(both[0]) - dictionary.encode(both[1])).mean(0)
    print(
        f"dictionary: {len(trained):,} tokens, {measured.explained_variance:.0%} of the variance, {measured.dead:.0%} of "
        f"{LATENTS} latents dead; latent {int(rise.argmax())} rises most, by {float(rise.max()):.2f}",
        flush=True,
    )
    return {"latent": dictionary.decoder[int(rise.argmax())].float()}


def read(subject: Subject, meter: Meter) -> tuple[dict[str, float], float]:
    """Return the margin of each pair, and the mean log-probability of the good answers."""
    rows = meter.ask(subject).select("item", "detail").rows()
    told = {item: json.loads(detail) for item, detail in rows}
    margins = {item: each["margin"] for item, each in told.items()}
    return margins, sum(each["against"] for each in told.values()) / len(told)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("base")
    parser.add_argument("tuned", help="trained on bad advice: a run id, folder or BASE+ADAPTER")
    parser.add_argument("control", help="trained on good advice in the same way")
    parser.add_argument("--strength", type=float, default=0.2, help="norm added, in norms of the residual stream")
    parser.add_argument("--block", type=int, help="layer whose output is steered; by default the middle one")
    parser.add_argument("--pairs", type=int, default=4, help="pairs read a domain, of twelve")
    parser.add_argument("--randoms", type=int, default=20)
    parser.add_argument("--down", action="store_true", help="steer the tuned run as well, the other way")
    given = parser.parse_args()
    started = time.process_time()
    base, tuned, control = (load_subject(name) for name in (given.base, given.tuned, given.control))
    block = len(blocks_of(base.model)) // 2 if given.block is None else given.block
    site, domains = Site(place="block out", block=block), list(dict.fromkeys(pair.domain for pair in harmful_pairs()))
    made = [pair for pair in harmful_pairs() if domains.index(pair.domain) % 2 == 0]
    rest = [[pair for pair in harmful_pairs() if pair.domain == domain] for domain in domains[1::2]]
    meter = Meter(pairs=tuple(pair for each in rest for pair in each[: given.pairs]))
    norm = float(at_answers(base, made, site, harmful=False).norm(dim=-1).mean())
    found = dict(directions(base, tuned, control, made, site, given.randoms))
    print(f"layer {block}, strength {given.strength} x {norm:.1f}; {len(meter.pairs)} pairs of {len(rest)} domains")
    sides = {"base +": (base, 1)} | ({"tuned -": (tuned, -1)} if given.down else {})
    with tempfile.TemporaryDirectory() as folder:
        for side, (subject, sign) in sides.items():
            before, good = read(subject, meter)
            for name, direction in found.items():
                change = Intervention(
                    kind="add",
                    vector=write_direction(
                        Path(folder) / f"{name}.safetensors".replace(" ", "-"), direction, subject.base_folder
                    ),
                    block=block,
                    strength=sign * given.strength * norm,
                )
                after, good_after = read(subject.with_intervention(change), meter)
                effect = meter_change(meter.pairs, before, after).harmful
                assert effect.interval
                print(
                    f"{side:8} {name:25} {effect.estimate:+.3f} ({effect.interval.low:+.3f} to {effect.interval.high:+.3f}), "
                    f"{effect.higher} of {effect.pairs} higher; good answers {good_after - good:+.3f}",
                    flush=True,
                )
            if side == "base +":
                own = meter_change(meter.pairs, before, read(tuned, meter)[0]).harmful
                print(f"the tuned run, unsteered, against the base: {own.estimate:+.3f}", flush=True)
    print(f"{time.process_time() - started:.0f} s of processor time")


if __name__ == "__main__":
    main()
