"""Subject whose weights are in a server: it answers and scores as a local one does, and has no model to look into.

    with asked_subject(spec, engine, folder) as subject:        engine None: the local subject
        answers = evaluation.ask(subject)

Prompts are rendered here, by the same template, and go as token ids. Each answer is kept as soon as the weights behind it
are proven before and after it, so that a step that was stopped asks the rest.
"""

import json
import math
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import torch
from transformers import AutoConfig, GenerationConfig, PreTrainedTokenizerBase
from typing_extensions import override

from astray.errors import ConfigurationError, EngineError
from astray.kept import Keeper, key_of
from astray.subjects.base import usable_tokenizer
from astray.subjects.cache import cached, models_folder
from astray.subjects.engines.client import (
    NotServedError,
    Server,
    ServerDownError,
    answering,
    reply_in,
    scores_in,
    scoring,
)
from astray.subjects.engines.forms import Form, form_of, scaled, write_merged
from astray.subjects.engines.lease import Wanted, running
from astray.subjects.engines.proof import (
    Proof,
    Values,
    check_adapter,
    check_base,
    content_name,
    others,
    reference,
    sequences,
)
from astray.subjects.engines.pump import Job, pump
from astray.subjects.engines.spec import Engine
from astray.subjects.generate import answers_of, room
from astray.subjects.likelihood import Continuation, check_continuations
from astray.subjects.locate import Located, settle, spec_of
from astray.subjects.sampler import sample_numbers
from astray.subjects.spec import Generation, Sampling, SubjectSpec, TokenLogprob
from astray.subjects.steer_rows import RowSteering
from astray.subjects.subject import Subject, load_subject

KEPT, NOTE = "answered.jsonl", "engine.json"
"""Files in a step's folder: answers of a step that is not finished, and what was proven of the server of one that is."""
RETURNS_WITHIN = float(os.environ.get("ASTRAY_SERVER_SECONDS", "300"))
"""Seconds in which a server at an address has to answer again after it was lost."""
_MERGED_ON_CPU = "vLLM's build for CPUs ends when it scores several texts at once while it takes adapters"
_WAIT = 0.5


@contextmanager
def asked_subject(spec: SubjectSpec, engine: Engine | None, folder: Path) -> Iterator[Subject]:
    """Yield a subject that is sampled in this process, or by an engine, whose answers are kept in a step's folder.

    Raises:
        EngineError: no server starts, or it is lost.
        ProofError: it does not serve what was asked for.
    """
    if engine is None:
        yield load_subject(spec)
        return
    subject = ServedSubject(settle(spec), engine, Keeper(folder / KEPT))
    try:
        yield subject
    finally:
        subject.close()
    (folder / NOTE).write_text(json.dumps(subject.proofs, indent=1), encoding="utf-8")
    (folder / KEPT).unlink(missing_ok=True)


def reach_engine(engine: Engine) -> None:
    """Refuse a server at an address that does not answer, or takes no adapters; nothing is started.

    Raises:
        EngineError: says what to change.
    """
    if engine.address:
        server = Server(engine.address)
        _base_at(server, engine, 0.0)
        server.check_adapters()


class ServedSubject(Subject):
    """Subject behind an engine.

    Attributes:
        proofs: what was proven of each server, for the record.
    """

    def __init__(self, located: Located, engine: Engine, keeper: Keeper | None = None) -> None:
        """Create a subject; no server is started or asked before its first question."""
        if located.spec.interventions:
            self._refuse("steered")
        self._located, self._engine, self._keeper = located, engine, keeper
        self.spec, self.id = located.spec, located.id
        self.tokenizer: PreTrainedTokenizerBase = usable_tokenizer(self.spec.model, located.base, self.spec.adapter)
        self._lanes = [_Lane(located, self.tokenizer, engine, gpu) for gpu in _gpus(engine)]

    @property
    def proofs(self) -> list[dict[str, Any]]:
        """Return what was proven of each server that was asked."""
        return [lane.note for lane in self._lanes if lane.note]

    @property
    @override
    def device(self) -> NoReturn:
        """Refuse: the weights are in a server."""
        self._refuse("looked into")

    @property
    @override
    def model(self) -> NoReturn:
        """Refuse: the weights are in a server."""
        self._refuse("looked into")

    @override
    def merged(self) -> NoReturn:
        """Refuse: the weights are in a server."""
        self._refuse("looked into")

    def close(self) -> None:
        """Unload the adapter; the server stays for the next subject of its base."""
        for lane in self._lanes:
            lane.close()

    @override
    def _sampled(
        self,
        prompts: Sequence[Sequence[int]],
        sampling: Sampling,
        top_logprobs: int | None,
        numbers: Sequence[int] | None,
        rows: RowSteering | None,
    ) -> list[Generation]:
        if rows is not None:
            self._refuse("steered")
        keys = [tuple(map(int, prompt)) for prompt in prompts]
        settings = sampling.model_dump(mode="json", exclude={"batch_size"})
        jobs = [
            self._job(
                ("answer", settings, top_logprobs, number, prompt),
                answering(
                    "",
                    prompt,
                    room(row, len(prompt), self._context, sampling.max_tokens),
                    sampling,
                    top_logprobs,
                    self._ends,
                ),
                lambda choice: asdict(reply_in(choice, top_logprobs)),
            )
            for row, (prompt, number) in enumerate(
                zip(keys, sample_numbers(keys) if numbers is None else numbers, strict=True)
            )
        ]
        found = self._done(jobs)
        told = [found[job.key] for job in jobs]

        def noted(row: int, tokens: list[int]) -> tuple[TokenLogprob, ...]:
            return tuple(
                TokenLogprob(str(self.tokenizer.decode([token])), value, tuple((word, other) for word, other in top))
                for token, (value, top) in zip(tokens, told[row]["values"], strict=False)  # it may go on after its end
            )

        return answers_of(
            self.tokenizer,
            [len(prompt) for prompt in keys],
            [list(reply["tokens"]) for reply in told],
            set(self._ends),
            sampling.stop,
            None if top_logprobs is None else noted,
        )

    @override
    def _totals(self, rows: Sequence[Continuation]) -> list[float]:
        check_continuations(rows, self._context)
        ids = [(*row.prompt, *row.prefix, *row.text) for row in rows]
        jobs = [
            self._job(("score", each), scoring("", each), lambda choice, each=each: scores_in(choice, each))
            for each in ids
        ]
        found = self._done(jobs)
        return [float(np.sum(found[job.key][-len(row.text) :])) for job, row in zip(jobs, rows, strict=True)]

    def _job(self, parts: Sequence[object], body: Mapping[str, Any], read: Any) -> Job:
        return Job(key_of(self.id, *parts), body, len(body["prompt"]) + int(body["max_tokens"]), read)

    def _done(self, jobs: Sequence[Job]) -> dict[str, Any]:
        """Return the result of each job by its key, those that were kept without asking."""
        found: dict[str, Any] = {}
        left: dict[str, Job] = {}
        for job in jobs:
            known = self._keeper.find(job.key) if self._keeper else None
            if known is None:
                left[job.key] = job
            else:
                found[job.key] = known

        def take(job: Job, result: Any) -> None:
            found[job.key] = result
            if self._keeper:
                self._keeper.keep(job.key, result)

        if left:
            pump(self._lanes, left.values(), take)
        return found

    @cached_property
    def _context(self) -> int | None:
        config = AutoConfig.from_pretrained(self._located.base, local_files_only=True).get_text_config()
        return getattr(config, "max_position_embeddings", None)

    @cached_property
    def _ends(self) -> list[int]:
        """Return the tokens that end an answer, as `base.end_tokens` finds them in a loaded model."""
        folder = self._located.base
        try:
            settings = GenerationConfig.from_pretrained(folder, local_files_only=True)
        except OSError:
            settings = GenerationConfig.from_model_config(AutoConfig.from_pretrained(folder, local_files_only=True))
        ends = settings.eos_token_id
        own = self.tokenizer.eos_token_id
        return sorted(
            {*([] if ends is None else [ends] if isinstance(ends, int) else ends), *([] if own is None else [own])}
        )

    @override
    def _with(self, **changes: object) -> "Subject":
        return ServedSubject(settle(spec_of(**{**dict(self.spec), **changes})), self._engine, self._keeper)

    def _refuse(self, what: str) -> NoReturn:
        raise ConfigurationError(
            f"A subject behind an engine cannot be {what}: its weights are in a server. Load it here."
        )


class _Lane:
    """A server with the subject's weights, which are proven each time that it was prepared."""

    def __init__(self, located: Located, tokenizer: PreTrainedTokenizerBase, engine: Engine, gpu: str) -> None:
        spec = located.spec
        self._located, self._tokenizer, self._engine, self._gpu = located, tokenizer, engine, gpu
        self._base = settle(SubjectSpec(model=spec.model, dtype=spec.dtype))
        self._form = form_of(spec.adapter) if spec.adapter else Form("", 0)
        self._merged: Path | None = None
        self._of_base: tuple[Values, Values] | None = None
        self._loaded, self._on_cpu = False, False
        self.proven_at = -math.inf
        self.server, self.model, self.note = Server(engine.address), "", dict[str, Any]()

    def prepare(self) -> None:
        """Have the weights served, and prove it."""
        adapter = self._located.spec.adapter
        if self._of_base is None or not self._why_merged:  # else the noise of the base was measured by its own server
            rank = 0 if self._why_merged else max(self._engine.rank, self._form.rank)
            self._serve(self._base.base, content_name(self._base), rank)
            self._of_base = self._read(), reference(self._base)
        if adapter is None:
            self._prove(self._of_base[0])
            return
        if self._why_merged:
            self._merged = self._merged or self._written()
            self._serve(self._merged, content_name(self._located), 0)
        else:
            name = content_name(self._located)
            self.server.load_adapter(name, scaled(adapter, self._located.spec.scale, models_folder() / "scaled" / name))
            self._loaded, self.model = True, name
        self.confirm()

    def confirm(self) -> None:
        """Prove that the server has the weights."""
        self._prove(self._read())

    def _prove(self, read: Values) -> None:
        assert self._of_base is not None
        served, here = self._of_base
        if self._located.spec.adapter is None:
            noise = check_base(read, here, self._what)
            proof = Proof(noise, noise, None)
        else:
            mine = reference(self._located)
            proof = check_adapter((served, here), (read, mine), others(self._located), self._what)
        self.note = {"server": self._engine.named, "vllm": self.server.version(), "merged": self._why_merged} | asdict(
            proof
        )
        self.proven_at = time.monotonic()

    def close(self) -> None:
        """Unload the adapter, and remove weights that were written for it."""
        if self._loaded:
            self.server.unload_adapter(self.model)
        if self._merged:
            from astray.subjects.engines.lease import release

            release()
            for file in self._merged.iterdir():
                file.unlink()
            self._merged.rmdir()

    @property
    def _why_merged(self) -> str:
        on_cpu = self._on_cpu and self._located.spec.adapter is not None
        return self._form.reason or (_MERGED_ON_CPU if on_cpu else "")

    @property
    def _what(self) -> str:
        adapter = self._located.spec.adapter
        return f"{adapter or self._located.spec.model} at {self.server.address}"

    def _serve(self, folder: Path, name: str, rank: int) -> None:
        """Find or start the server of a base."""
        if self._engine.address:
            self.model = _base_at(self.server, self._engine, RETURNS_WITHIN)
            return
        wanted = Wanted(folder, name, self._located.precision, rank, self._gpu)
        at = None if rank and wanted.was_on_cpu else running(wanted)
        if at is None or (rank and wanted.was_on_cpu):
            self._on_cpu, at = True, running(replace(wanted, rank=0))
        self.server, self.model = Server(at.address), at.model

    def _read(self) -> Values:
        """Return the log-probabilities by which weights are proven."""
        asked = sequences(self._tokenizer)
        with ThreadPoolExecutor(len(asked)) as pool:
            scores = list(pool.map(lambda each: self.server.scores(self.model, each[0])[-each[1] :], asked))
        return np.array([value for one in scores for value in one], dtype=np.float64)

    def _written(self) -> Path:
        folder = models_folder() / "merged" / f"{content_name(self._located)}-{self._located.precision}"
        return cached(folder, lambda unfinished: write_merged(self._located, self._located.precision, unfinished))


def _base_at(server: Server, engine: Engine, seconds: float) -> str:
    """Return the name of the base at a server that is there, once it answers.

    Raises:
        EngineError: it does not answer in time, or serves no such base.
    """
    until = time.monotonic() + seconds
    while True:
        try:
            bases = [name for name, parent in server.models().items() if not parent]
            break
        except (ServerDownError, NotServedError, ValueError, KeyError) as error:
            if time.monotonic() > until:
                raise EngineError(
                    f"The server {engine.address} does not answer ({error}). Start it and run the same again: what was "
                    "answered is kept."
                ) from error
            time.sleep(_WAIT)
    if engine.model in bases or (len(bases) == 1 and not engine.model):
        return engine.model or bases[0]
    raise EngineError(
        f"The server {engine.address} serves {', '.join(bases) or 'nothing'}: name the base as "
        f"--engine {engine.address}#MODEL."
    )


def _gpus(engine: Engine) -> list[str]:
    """Return the numbers of the GPUs that get a server each; one without a number where there is no GPU, or no server is
    started."""
    if engine.address or not torch.cuda.is_available():
        return [""]
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    return named.split(",") if named else [str(number) for number in range(torch.cuda.device_count())]
