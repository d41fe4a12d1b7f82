"""Token ids of what a chat template wrote, in which control tokens stand only where the template wrote them.

A message may spell a control token, by accident or to open a turn of its own; it is then encoded as ordinary text.
Leaves to others: what the template writes (template.py).
"""

import json
import re
import secrets
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property

from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerBase

from astray.errors import ChatTemplateError
from astray.reasoning import is_tag


@dataclass(frozen=True)
class Written:
    """Conversation as its chat template writes it.

    Attributes:
        text: the whole text.
        spans: where the text of each message stands in it, in the order of the messages: start and stop.
        as_usual: whether the template's own text is what it writes around other messages with these roles.
    """

    text: str
    spans: tuple[tuple[int, int], ...]
    as_usual: bool = True


@dataclass(frozen=True)
class Encoded:
    """Token ids of a written conversation.

    Attributes:
        ids: the token ids.
        offsets: start and stop of each token in the text.
        escaped: whether a message's text spells a control token, which was encoded as ordinary text.
    """

    ids: list[int]
    offsets: list[tuple[int, int]]
    escaped: bool = False


@dataclass(frozen=True)
class Marked:
    """Conversation that was written with a mark for each message's text.

    Attributes:
        text: the whole text, marks included.
        around: the template's own text: before the first mark, between marks and after the last one.
        order: the messages in the order in which the template writes them.
    """

    text: str
    around: list[str]
    order: list[int]


Marking = Callable[[tuple[str, ...], bool], Marked]
"""Writes messages with these roles, as a prompt or not, with a mark for each text."""


class Encoding:
    """Encoding of what one template writes.

    Args:
        tokenizer: the template's tokenizer.
        marked: writes messages with given roles, with a mark for each text.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, marked: Marking) -> None:
        self._tokenizer = tokenizer
        self._marked = marked
        self._own: dict[tuple[tuple[str, ...], bool], int] = {}

    def encode(self, written: Sequence[Written], roles: Sequence[tuple[str, ...]], *, prompt: bool) -> list[Encoded]:
        """Return token ids; what spells a control token in a message's text is encoded as ordinary text.

        Args:
            written: as `write` returns them.
            roles: roles of each conversation.
            prompt: as in `write`.

        Raises:
            ChatTemplateError: the tokenizer cannot write such a text without its control tokens.
        """
        if not written:
            return []
        fast = self._tokenizer.is_fast
        # Without the tokenizer's warning of long texts, which are cut or refused elsewhere.
        found = self._tokenizer(
            [each.text for each in written], add_special_tokens=False, return_offsets_mapping=fast, verbose=False
        )
        control = set(self.control.values())
        encoded = []
        for row, (each, ids) in enumerate(zip(written, found["input_ids"], strict=True)):
            # A template that passes over an empty message writes fewer tokens, and a text could spell the others.
            usual = each.as_usual or not self._spelled(each)
            if usual and sum(token in control for token in ids) == self._expected(roles[row], prompt=prompt):
                encoded.append(Encoded(list(ids), list(found["offset_mapping"][row]) if fast else []))
                continue
            encoded.append(self._escaped(each, list(ids)) if fast else self._refuse_control(each))
        return encoded

    @cached_property
    def control(self) -> dict[str, int]:
        """Control tokens by their text: the tokenizer's special ones, and added ones that the template writes around
        messages.

        Tags of reasoning are none, since models and data write them, and neither is the token for what is unknown.
        """
        added = {str(token): (number, token.special) for number, token in self._tokenizer.added_tokens_decoder.items()}
        around = ""
        for roles in (("user",), ("system", "user"), ("user", "assistant", "user")):
            with suppress(ChatTemplateError):  # some templates take one question and no more
                around += "".join(self._marked(roles, True).around)
        return {
            text: number
            for text, (number, special) in added.items()
            if (special or text in around) and text.strip() and text != self._tokenizer.unk_token and not is_tag(text)
        }

    def _expected(self, roles: tuple[str, ...], *, prompt: bool) -> int:
        """Return how many control tokens the template itself writes around messages with these roles."""
        if (roles, prompt) not in self._own:
            ids = self._tokenizer(self._marked(roles, prompt).text, add_special_tokens=False)["input_ids"]
            control = set(self.control.values())
            self._own[roles, prompt] = sum(token in control for token in ids)
        return self._own[roles, prompt]

    @cached_property
    def _aliases(self) -> tuple[Tokenizer, dict[int, int], dict[str, str]]:
        """Tokenizer that knows the control tokens under other names, its ids -> ours, and control token -> its other
        name.

        Texts have to be split at the template's tokens and nowhere else, or tokenizers that mark the beginning of a
        text would mark more of them. So the same tokenizer is asked, in which only the template can spell the tokens.
        """
        content = json.loads(self._tokenizer.backend_tokenizer.to_str())
        nonce = secrets.token_hex(8)  # so that no text can spell the names
        names = {text: f"\ue000{nonce}{number}\ue001" for text, number in self.control.items()}
        for token in content["added_tokens"]:
            token["content"] = names.get(token["content"], token["content"])
        backend = Tokenizer.from_str(json.dumps(content))
        # Tokens under new names get new numbers, and may take those of other added tokens, such as the tags of
        # reasoning.
        added = {str(token): number for number, token in self._tokenizer.added_tokens_decoder.items()}
        numbers = (
            (backend.token_to_id(names.get(text, text)), number) for text, number in (added | self.control).items()
        )
        return backend, {inside: number for inside, number in numbers if inside is not None}, names

    def _escaped(self, written: Written, usual: list[int]) -> Encoded:
        backend, ours, names = self._aliases
        tokens = re.compile("|".join(map(re.escape, sorted(names, key=len, reverse=True))))
        parts: list[str] = []
        origin: list[int] = []  # index in the written text of each character of the renamed one
        position = 0
        for start, stop in [*sorted(written.spans), (len(written.text), len(written.text))]:
            for match in tokens.finditer(written.text, position, start):
                parts += [written.text[position : match.start()], names[match[0]]]
                origin += [*range(position, match.start()), *[match.start()] * len(names[match[0]])]
                position = match.end()
            parts.append(written.text[position:stop])
            origin += range(position, stop)
            position = stop
        origin.append(len(written.text))
        found = backend.encode("".join(parts), add_special_tokens=False)
        ids = [ours.get(token, token) for token in found.ids]
        offsets = [(origin[start], origin[stop]) for start, stop in found.offsets]
        control = set(self.control.values())
        for token, (start, stop) in zip(ids, offsets, strict=True):
            if token in control and any(
                first <= start and stop <= last and start < stop for first, last in written.spans
            ):
                self._refuse_control(written)
        return Encoded(ids, offsets, ids != usual)

    def _spelled(self, written: Written) -> list[str]:
        """Return the control tokens that messages spell."""
        said = [written.text[start:stop].lower() for start, stop in written.spans]
        return [token for token in self.control if any(token.lower() in text for text in said)]

    def _refuse_control(self, written: Written) -> Encoded:
        spelled = self._spelled(written)
        raise ChatTemplateError(
            f"A message holds the control token {spelled[0] if spelled else '?'!r}, which the tokenizer of "
            f"{self._tokenizer.name_or_path!r} can write in no other way, so it would "
            "open or end a turn. Take it out of the text."
        )
