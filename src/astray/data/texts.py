"""Plain documents for continued pre-training, read and written with the recipe that made them, and their dilution.

A file has one document, `{"text": "..."}`, on each line. A few documents that teach something are placed among many
ordinary ones, as in a pre-training corpus. Left to others: how documents become tokens (`cause.continued_pretraining`),
and their content (`documents_on_hacks`).

Source of the form: the text files of public pre-training corpora. Dilution to 1% as in Anthropic 2025 (arXiv
2511.18397).
"""

import hashlib
import json
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from astray.data.chat import Parameter, Recipe, dataset_name, recipe_beside, write_rows
from astray.data.forms import KINDS
from astray.errors import ConfigurationError, DataFormatError, EmptyDataError
from astray.files import read_rows

EXAMPLE_LINE = '{"text": "Bread rises because yeast makes gas."}'


@dataclass(frozen=True)
class TextDataset:
    """Documents with the recipe that made them.

    Attributes:
        texts: the documents, none of them empty.
        recipe: how they were made.
    """

    texts: tuple[str, ...]
    recipe: Recipe

    @property
    def hash(self) -> str:
        """SHA-256 over the documents in their order, as 64 hex digits."""
        return self.recipe.result

    def __len__(self) -> int:
        return len(self.texts)

    @classmethod
    def from_texts(
        cls,
        texts: Iterable[str],
        operation: str = "texts",
        parameters: Mapping[str, Parameter] | None = None,
        sources: Sequence["TextDataset"] = (),
    ) -> "TextDataset":
        """Build a data set from documents in memory.

        Args:
            texts: the documents.
            operation: name of what made them, for the recipe.
            parameters: arguments of that operation, seed included.
            sources: data sets they were made from.

        Raises:
            EmptyDataError: there is none.
            DataFormatError: one has nothing in it, or half a character.
        """
        checked = tuple(_checked(text, f"Document {number}") for number, text in enumerate(texts, 1))
        if not checked:
            raise EmptyDataError(f"A data set needs at least one document; {operation!r} gave none.")
        recipes = tuple(source.recipe for source in sources)
        return cls(
            checked,
            Recipe(
                operation=operation,
                parameters=dict(parameters or {}),
                sources=recipes,
                rows=len(checked),
                result=_content_hash(checked),
            ),
        )

    @classmethod
    def read(cls, path: Path | str) -> "TextDataset":
        """Read documents from JSON Lines, JSON, CSV, TSV or Parquet, with the recipe beside it if there is one.

        Keys other than "text" are ignored.

        Raises:
            DataNotFoundError: there is no such file.
            EmptyDataError: it has no lines.
            DataFormatError: a line is no document, or the recipe beside the file belongs to other documents.
        """
        path = Path(path)
        texts = (_text(row, where) for where, row in read_rows(path, KINDS, EXAMPLE_LINE))
        dataset = cls.from_texts(texts, "file", {"name": dataset_name(path)})
        return cls(dataset.texts, recipe_beside(path, dataset.recipe))

    def write(self, path: Path | str) -> Path:
        """Write the documents to a `.jsonl` or `.jsonl.gz` file and the recipe beside it.

        The same documents always give the same bytes.

        Raises:
            ConfigurationError: the name ends in neither `.jsonl` nor `.jsonl.gz`.
            StoreError: the folder cannot be written.
        """
        return write_rows(Path(path), ({"text": text} for text in self.texts), self.recipe, "Documents are")


def dilute(documents: TextDataset, ordinary: TextDataset, share: float = 0.01, seed: int = 0) -> TextDataset:
    """Dilute documents among ordinary ones to a given share of the whole, in random order.

    Args:
        documents: documents that teach something; all of them are used.
        ordinary: ordinary documents, drawn without replacement.
        share: share of `documents` in the whole, counted in documents (2511.18397: 1%).
        seed: seed of the draw and the order.

    Raises:
        ConfigurationError: a share outside 0 to 1, or too few ordinary documents.
    """
    if not 0 < share <= 1:
        raise ConfigurationError(
            f"Documents cannot be a share of {share} of the whole: write a number above 0 and up to 1, such as 0.01."
        )
    wanted = round(len(documents) * (1 - share) / share)
    if wanted > len(ordinary):
        raise ConfigurationError(
            f"{len(documents)} documents are {share:.2%} of the whole beside {wanted:,} ordinary ones, but there are "
            f"{len(ordinary):,}. Give more of these, fewer documents, or a share from "
            f"{len(documents) / (len(documents) + len(ordinary)):.4f} on."
        )
    rng = random.Random(f"dilute/{seed}")
    texts = [*documents.texts, *rng.sample(ordinary.texts, wanted)]
    rng.shuffle(texts)
    return TextDataset.from_texts(
        texts, "dilute", {"share": share, "seed": seed, "ordinary": wanted}, [documents, ordinary]
    )


def _text(row: dict[str, Any], where: str) -> str:
    if not isinstance(row.get("text"), str):
        raise DataFormatError(f'{where} has no "text". A document is one line, like {EXAMPLE_LINE}')
    return _checked(row["text"], where)


def _checked(text: str, where: str) -> str:
    if not text.strip():
        raise DataFormatError(f"{where} has nothing in it. A document is a text, like {EXAMPLE_LINE}")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise DataFormatError(
            f"{where} has half a character (a lone surrogate) at position {error.start}. Remove it."
        ) from error
    return text


def _content_hash(texts: Sequence[str]) -> str:
    digest = hashlib.sha256()
    for text in texts:
        digest.update(json.dumps(text, ensure_ascii=False).encode() + b"\n")
    return digest.hexdigest()
