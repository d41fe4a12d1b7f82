"""What reading activations costs beside a plain forward pass, and beside nnsight and TransformerLens doing the same,
side by side in one run.

    pip install 'astray[benchmarks]'
    OMP_NUM_THREADS=1 python benchmarks/capture.py

A Llama of 1.6M random weights (6 blocks, d_model 128) reads 512 texts of 20 to 90 tokens in the same padded batches, on
one thread, and then 128 of them one by one, where what a library does beside the pass counts most. Every path gives the
output of a block at every token of every text; what they give is compared first. `capture` pads the texts itself, and
so do the stopped passes of the libraries that it is compared with; the whole passes get batches that are padded
already. Processor seconds, so that other work on the machine disturbs little; the paths take turns and the fastest of
their rounds counts. Targets: hooks within 1.05 times a plain pass, and faster than both libraries, whole and stopped.
"""

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import copy
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor

from astray.explain.activations import TOKENS_PER_PASS, TokenRow, capture
from astray.explain.sites import Site, reading
from astray.subjects.generate import left_padded
from astray.subjects.subject import Subject, load_subject
from generation import save_model

TEXTS, SINGLE, ROUNDS = 512, 128, 5
MIDDLE, LAST = 2, 5
Batch = tuple[Tensor, Tensor, Tensor]


def make_rows() -> list[TokenRow]:
    return [
        TokenRow(tuple((7 * row + 13 * place) % 690 + 4 for place in range(20 + (37 * row) % 71)))
        for row in range(TEXTS)
    ]


def padded(rows: list[TokenRow]) -> list[Batch]:
    """The batches that `capture` makes of the rows: ids, mask and positions."""
    ordered, batches = sorted(rows, key=lambda row: -len(row.tokens)), []
    while ordered:
        size = max(1, TOKENS_PER_PASS["cpu"] // len(ordered[0].tokens))
        ids, mask = left_padded([row.tokens for row in ordered[:size]], 0, torch.device("cpu"))
        batches.append((ids, mask, (mask.cumsum(1) - 1).clamp(min=0)))
        ordered = ordered[size:]
    return batches


def plain(subject: Subject, batches: list[Batch]) -> None:
    model = subject.model
    with torch.no_grad():
        for ids, mask, positions in batches:
            model(input_ids=ids, attention_mask=mask, position_ids=positions, use_cache=False)


def hooked(subject: Subject, batches: list[Batch], block: int) -> Tensor:
    """Our hooks on whole forward passes: no stopping, and nothing of what `capture` does besides."""
    found: list[Tensor] = []
    with (
        torch.no_grad(),
        reading(
            subject.model, [Site(place="block out", block=block)], lambda _, activations: found.append(activations)
        ),
    ):
        taken = []
        for ids, mask, positions in batches:
            subject.model(input_ids=ids, attention_mask=mask, position_ids=positions, use_cache=False)
            taken.append(found.pop()[mask.bool()])
    return torch.cat(taken)


def hidden_states(subject: Subject, batches: list[Batch], block: int) -> Tensor:
    taken = []
    with torch.no_grad():
        for ids, mask, positions in batches:
            output = subject.model(
                input_ids=ids, attention_mask=mask, position_ids=positions, use_cache=False, output_hidden_states=True
            )
            taken.append(output.hidden_states[block + 1][mask.bool()])
    return torch.cat(taken)


def through_nnsight(subject: Subject, give: Callable[[], list[Batch]], block: int, stop: bool) -> Callable[[], Tensor]:
    from nnsight import LanguageModel

    model = LanguageModel(copy.deepcopy(subject.model), tokenizer=subject.tokenizer)

    def run() -> Tensor:
        taken = []
        with torch.no_grad():
            for ids, mask, positions in give():
                with model.trace(
                    {"input_ids": ids, "attention_mask": mask, "position_ids": positions, "use_cache": False}
                ) as tracer:
                    hidden = model.model.layers[block].output.save()
                    if stop:
                        tracer.stop()
                taken.append((hidden[0] if isinstance(hidden, tuple) else hidden)[mask.bool()])
        return torch.cat(taken)

    return run


def through_transformer_lens(
    subject: Subject, folder: Path, give: Callable[[], list[Batch]], block: int, stop: bool
) -> Callable[[], Tensor]:
    from transformer_lens.model_bridge import TransformerBridge

    model = TransformerBridge.boot_transformers(
        str(folder), hf_model=copy.deepcopy(subject.model), tokenizer=subject.tokenizer
    )
    name = f"blocks.{block}.hook_resid_post" if not stop else f"blocks.{block}.hook_out"

    def run() -> Tensor:
        taken = []
        with torch.no_grad():
            for ids, mask, positions in give():
                _, cache = model.run_with_cache(
                    ids,
                    names_filter=[name],
                    stop_at_layer=block + 1 if stop else None,
                    attention_mask=mask,
                    position_ids=positions,
                    use_cache=False,
                    return_type=None if stop else "logits",
                )
                taken.append(cache[name][mask.bool()])
        return torch.cat(taken)

    return run


def paths(
    subject: Subject, folder: Path, rows: list[TokenRow], batches: list[Batch]
) -> dict[str, Callable[[], object]]:
    sites = {block: Site(place="block out", block=block) for block in (MIDDLE, LAST)}
    return {
        "plain forward pass": lambda: plain(subject, batches),
        "hooks on it, last block": lambda: hooked(subject, batches, LAST),
        "hooks on it, middle block": lambda: hooked(subject, batches, MIDDLE),
        "capture, last block": lambda: capture(subject, rows, [sites[LAST]], "all")[sites[LAST]],
        "capture, middle block": lambda: capture(subject, rows, [sites[MIDDLE]], "all")[sites[MIDDLE]],
        "output_hidden_states": lambda: hidden_states(subject, batches, MIDDLE),
        "nnsight, middle block": through_nnsight(subject, lambda: batches, MIDDLE, stop=False),
        "nnsight, stopped there": through_nnsight(subject, lambda: padded(rows), MIDDLE, stop=True),
        "TransformerLens, middle block": through_transformer_lens(subject, folder, lambda: batches, MIDDLE, stop=False),
        "TransformerLens, stopped there": through_transformer_lens(
            subject, folder, lambda: padded(rows), MIDDLE, stop=True
        ),
    }


def check_equal(results: dict[str, object], rows: list[TokenRow]) -> None:
    """All paths that read the middle block give the same activations; `capture` gives them in the order of the rows."""
    reference = results.pop("output_hidden_states")
    assert isinstance(reference, Tensor)
    order = sorted(range(len(rows)), key=lambda index: -len(rows[index].tokens))
    starts = torch.tensor([0, *(len(row.tokens) for row in rows)]).cumsum(0)
    sorted_tokens = torch.cat([torch.arange(starts[index], starts[index + 1]) for index in order])
    for name, result in results.items():
        if isinstance(result, Tensor) and "last" not in name:
            torch.testing.assert_close(
                result[sorted_tokens] if name.startswith("capture") else result, reference, rtol=1e-3, atol=1e-3
            )


def seconds(run: Callable[[], object]) -> tuple[float, float]:
    """Time on the processor, and on the clock."""
    clock, processor = time.perf_counter(), time.process_time()
    run()
    return time.process_time() - processor, time.perf_counter() - clock


def main() -> None:
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    with TemporaryDirectory() as temporary:
        folder = save_model(Path(temporary))
        subject = load_subject(str(folder), torch.device("cpu"))
        compare(f"{TEXTS} texts, {TOKENS_PER_PASS['cpu']:,} tokens a pass", subject, folder, make_rows())
        TOKENS_PER_PASS["cpu"] = 1
        compare(f"{SINGLE} texts, one a pass", subject, folder, make_rows()[:SINGLE])


def compare(title: str, subject: Subject, folder: Path, rows: list[TokenRow]) -> None:
    batches = padded(rows)
    runs = paths(subject, folder, rows, batches)
    check_equal({name: run() for name, run in runs.items()}, rows)
    rounds = [{name: seconds(run) for name, run in runs.items()} for _ in range(ROUNDS)]
    best = {name: min(times[name] for times in rounds) for name in runs}
    tokens, reference = sum(len(row.tokens) for row in rows), best["plain forward pass"][0]
    print(f"{title}: {tokens:,} tokens, 1 thread, best of {ROUNDS} by processor time")
    for name, (processor, clock) in best.items():
        print(
            f"{name:32s} {processor:6.3f} s ({clock:.3f} s on the clock)  {processor / reference:5.2f} x plain  "
            f"{tokens / processor:9,.0f} tokens/s"
        )
    pairs = {
        "stopping at the middle block saves, of a plain pass": 1 - best["capture, middle block"][0] / reference,
        "nnsight takes, times ours, whole": best["nnsight, middle block"][0] / best["hooks on it, middle block"][0],
        "nnsight takes, times ours, stopped": best["nnsight, stopped there"][0] / best["capture, middle block"][0],
        "TransformerLens takes, times ours, whole": best["TransformerLens, middle block"][0]
        / best["hooks on it, middle block"][0],
        "TransformerLens takes, times ours, stopped": best["TransformerLens, stopped there"][0]
        / best["capture, middle block"][0],
    }
    for name, value in pairs.items():
        print(f"{name}: {value:.2f}")


if __name__ == "__main__":
    main()
