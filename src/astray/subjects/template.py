"""What a chat template does with a conversation, found out by writing one, and checked on each one that is written.

Templates trim, drop system messages, raise at them, strip reasoning, write today's date, or have no place where an
answer begins; none of it stands in their metadata. So each sequence of roles is written once with a mark for each text:
what stands around the marks is the template's own text. A conversation in which a message's text is missing is refused,
and control tokens count only where the template wrote them.
"""

import json
import re
import secrets
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import date
from functools import cached_property, lru_cache

from jinja2 import TemplateError
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerBase

from astray.data.chat import Message
from astray.errors import ChatTemplateError, ConfigurationError
from astray.reasoning import is_tag, opened_tag, split_reasoning
from astray.subjects.identity import TEMPLATE_DATE

_MARK = "AstrayText{}Here"
_TODAY = re.compile(r"strftime_now\s*\(\s*(?P<quote>['\"])(?P<form>.*?)(?P=quote)\s*\)")


@dataclass(frozen=True)
class Written:
    """Conversation as its chat template writes it.

    Attributes:
        text: the whole text.
        spans: where the text of each message stands in it, in the order of the messages: start and stop.
    """

    text: str
    spans: tuple[tuple[int, int], ...]


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


def check_messages(conversation: object) -> None:
    """Refuse what is no list of messages, each with a role and a text that can be encoded.

    Raises:
        ConfigurationError: says which message is wrong.
    """
    if not isinstance(conversation, Sequence) or isinstance(conversation, str | bytes):
        raise ConfigurationError(
            f'{conversation!r:.80} is no conversation. Give a list of messages like {{"role": "user", "content": '
            '"Hello."}.'
        )
    for number, message in enumerate(conversation, start=1):
        if not isinstance(message, Mapping) or not isinstance(message.get("role"), str) or "content" not in message:
            raise ConfigurationError(
                f'Message {number} is {message!r:.80}. Right: {{"role": "user", "content": "Hello."}}'
            )
        if not isinstance(message["content"], str):
            raise ConfigurationError(
                f"A {message['role']} message holds {message['content']!r:.80}; a message's content is a text, empty "
                "or not."
            )
        check_text(message["content"], f"Message {number} ({message['role']})")


def check_text(text: object, what: str) -> None:
    """Refuse what no tokenizer can encode.

    Raises:
        ConfigurationError: it is no text, or holds half a character.
    """
    if not isinstance(text, str):
        raise ConfigurationError(f"{what} is {text!r:.80}, which is no text.")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ConfigurationError(
            f"{what} has half a character (a lone surrogate) at position {error.start}. Remove it."
        ) from error


class Template:
    """Chat template of a tokenizer; get it with `template_of`, which keeps what was found out."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        """Refuse a tokenizer without a template.

        Raises:
            ChatTemplateError: there is none.
        """
        self._tokenizer = tokenizer
        self.name = tokenizer.name_or_path
        self._around: dict[tuple[tuple[str, ...], bool], tuple[list[str], list[int]]] = {}
        self._own_control: dict[tuple[tuple[str, ...], bool], int] = {}
        try:
            source = tokenizer.get_chat_template() if tokenizer.chat_template else ""
        except ValueError:  # several templates with names, none of which is the default
            source = ""
        if not source:
            raise ChatTemplateError(
                f"The tokenizer of {self.name!r} has no chat template, so chats cannot be written as text. "
                "Take the instruction-tuned model of the family, or set tokenizer.chat_template and save the tokenizer."
            )
        # A template that writes today's date would write another conversation tomorrow; transformers takes no other
        # clock.
        self._jinja: str = _TODAY.sub(
            lambda match: repr(date.fromisoformat(TEMPLATE_DATE).strftime(match["form"])), source
        )
        if re.search(r"strftime_now\s*\(", self._jinja):
            raise ChatTemplateError(
                f"The chat template of {self.name!r} writes today's date in a form that is not plain text, so it "
                "would write another conversation tomorrow. Write the form into the call, as in strftime_now('%d %b "
                "%Y')."
            )

    @cached_property
    def takes_system(self) -> bool:
        """Return whether the template has a place for a system message: it neither raises at one nor leaves its text
        out."""
        self._marked(("user",), prompt=True)  # a template that cannot write even this is no matter of system messages
        try:
            self._marked(("system", "user"), prompt=True)
        except ChatTemplateError:
            return False
        return True

    @cached_property
    def header(self) -> str:
        """Text that the template writes before an answer and not where it asks for one: an empty thought, or a channel.

        A model that is asked writes it itself.
        """
        try:
            asked = self._marked(("user",), prompt=True)[0]
            given = self._marked(("user", "assistant"), prompt=False)[0]
        except ChatTemplateError:
            return ""
        between = given[1].removeprefix(asked[1]) if given[0] == asked[0] and given[1].startswith(asked[1]) else ""
        return between if between.strip() and not split_reasoning(between).answer.strip() else ""

    @cached_property
    def opened(self) -> str:
        """Tag of reasoning that the template opens where an answer begins; empty for most templates."""
        return opened_tag(self._apply([_said("user", "a")], prompt=True))

    def placed(self, conversation: Sequence[Message]) -> list[Message]:
        """Return the conversation as the template can write it.

        A system text that the template has no place for stands in the first question, before a blank line.

        Raises:
            ChatTemplateError: there is no question that could take it.
            ConfigurationError: a message is none, or its content is no text.
        """
        check_messages(conversation)
        if not conversation or conversation[0]["role"] != "system" or self.takes_system:
            return list(conversation)
        system, *rest = conversation
        if not rest or rest[0]["role"] != "user":
            raise ChatTemplateError(
                f"The chat template of {self.name!r} has no place for a system message, and no question follows it "
                "that could take its text. Write it into a user message."
            )
        return [_said("user", f"{system['content']}\n\n{rest[0]['content']}"), *rest[1:]]

    def write(self, conversation: Sequence[Message], *, prompt: bool) -> Written:
        """Write a conversation; the text of every message stands in it, in order.

        Args:
            conversation: the messages, as `placed` returns them.
            prompt: end where the next answer begins; for a last message of the assistant, where that ends.

        Raises:
            ChatTemplateError: the template refuses the conversation, or leaves a message's text out.
        """
        text = self._apply(conversation, prompt=prompt)
        around, order = self._marked(tuple(message["role"] for message in conversation), prompt=prompt)
        spans = _aligned(text, around, [conversation[index] for index in order]) or _found(
            text, [conversation[index] for index in order]
        )
        if spans is None:
            self._refuse_lost(text, conversation)
        assert spans is not None
        placed = dict(zip(order, spans, strict=True))
        return Written(text, tuple(placed[index] for index in range(len(conversation))))

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
        found = self._tokenizer([each.text for each in written], add_special_tokens=False, return_offsets_mapping=fast)
        control = set(self.control.values())
        encoded = []
        for row, (each, ids) in enumerate(zip(written, found["input_ids"], strict=True)):
            if sum(token in control for token in ids) == self._expected(roles[row], prompt=prompt):
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
                around += "".join(self._marked(roles, prompt=True)[0])
        return {
            text: number
            for text, (number, special) in added.items()
            if (special or text in around) and text.strip() and text != self._tokenizer.unk_token and not is_tag(text)
        }

    def _expected(self, roles: tuple[str, ...], *, prompt: bool) -> int:
        """Return how many control tokens the template itself writes around messages with these roles."""
        if (roles, prompt) not in self._own_control:
            around, order = self._marked(roles, prompt=prompt)
            marks = [_MARK.format(index) for index in order]
            ids = self._tokenizer(
                "".join(part for pair in zip(around, [*marks, ""], strict=True) for part in pair),
                add_special_tokens=False,
            )
            control = set(self.control.values())
            self._own_control[roles, prompt] = sum(token in control for token in ids["input_ids"])
        return self._own_control[roles, prompt]

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

    def _refuse_control(self, written: Written) -> Encoded:
        spelled = [
            token
            for token in self.control
            if any(token.lower() in written.text[start:stop].lower() for start, stop in written.spans)
        ]
        raise ChatTemplateError(
            f"A message holds the control token {spelled[0] if spelled else '?'!r}, which the tokenizer of "
            f"{self.name!r} can write in no other way, so it would "
            "open or end a turn. Take it out of the text."
        )

    def _marked(self, roles: tuple[str, ...], *, prompt: bool) -> tuple[list[str], list[int]]:
        """Return the template's own text around messages with these roles, and the order in which it writes them.

        Raises:
            ChatTemplateError: the template refuses these roles, leaves one's text out, or writes it twice.
        """
        if (roles, prompt) not in self._around:
            marks = [_MARK.format(index) for index in range(len(roles))]
            text = self._apply([_said(role, mark) for role, mark in zip(roles, marks, strict=True)], prompt=prompt)
            for index, mark in enumerate(marks):
                if text.count(mark) != 1:
                    raise ChatTemplateError(
                        f"The chat template of {self.name!r} {'leaves out' if mark not in text else 'repeats'} the "
                        f"text of message {index + 1} ({roles[index]}) of a conversation with the roles "
                        f"{', '.join(roles)}, so the model would read another conversation. Set a chat template that "
                        "writes each message once."
                    )
            begin = self._tokenizer.bos_token
            if begin and text.startswith(2 * begin):
                raise ChatTemplateError(
                    f"The chat template of {self.name!r} writes the begin token {begin!r} twice. Take one out of it."
                )
            order = sorted(range(len(roles)), key=lambda index: text.index(marks[index]))
            talk = [index for index in order if roles[index] != "system"]
            if talk != sorted(talk):
                raise ChatTemplateError(
                    f"The chat template of {self.name!r} changes the order of messages ({', '.join(roles)}). Set "
                    "another one."
                )
            self._around[roles, prompt] = re.split("|".join(map(re.escape, marks)), text), order
        return self._around[roles, prompt]

    def _apply(self, conversation: Sequence[Message], *, prompt: bool) -> str:
        roles = ", ".join(message["role"] for message in conversation)
        continued = prompt and bool(conversation) and conversation[-1]["role"] == "assistant"
        try:
            text = self._tokenizer.apply_chat_template(
                [{"role": message["role"], "content": message["content"]} for message in conversation],
                tokenize=False,
                add_generation_prompt=prompt and not continued,
                continue_final_message=continued,
                chat_template=self._jinja,
            )
        except (TemplateError, ValueError, TypeError, LookupError, AttributeError) as error:
            raise ChatTemplateError(
                f"The chat template of {self.name!r} refuses a conversation with the roles {roles}: {error}. "
                "Write it in a form that the template takes (user and assistant in turn), or set another chat template."
            ) from error
        return str(text)

    def _refuse_lost(self, text: str, conversation: Sequence[Message]) -> None:
        position = 0
        for number, message in enumerate(conversation, start=1):
            forms = [form for form in _forms(message) if form in text[position:]]
            if not forms:
                raise ChatTemplateError(
                    f"The chat template of {self.name!r} does not write message {number} ({message['role']}) as it is: "
                    f"{message['content'][:80]!r} does not "
                    "stand in what the model would read. Set a chat template that writes each message's text."
                )
            position = text.index(forms[0], position) + len(forms[0])
        raise ChatTemplateError(f"The chat template of {self.name!r} changes the order of messages. Set another one.")


def template_of(tokenizer: PreTrainedTokenizerBase) -> Template:
    """Return a tokenizer's chat template.

    Raises:
        ChatTemplateError: it has none.
    """
    return _template_of(tokenizer, str(tokenizer.chat_template))


@lru_cache(maxsize=8)
def _template_of(tokenizer: PreTrainedTokenizerBase, _source: str) -> Template:
    return Template(tokenizer)


def _said(role: str, content: str) -> Message:
    return Message(role=role, content=content)


def _forms(message: Message) -> list[str]:
    """Return the forms in which a template may write a message's text: as it is, trimmed, and an answer without its
    reasoning."""
    content = message["content"]
    texts = [content]
    if message["role"] == "assistant" and (spoken := split_reasoning(content)).reasoning:
        texts.append(spoken.answer)
    return [form for text in texts for form in dict.fromkeys((text, text.rstrip(), text.lstrip(), text.strip()))]


def _aligned(text: str, around: list[str], messages: Sequence[Message]) -> list[tuple[int, int]] | None:
    """Return where each message's text stands, by the template's own text around it; None where that is not as in
    `around`."""
    if not text.startswith(around[0]):
        return None
    spans: list[tuple[int, int]] = []
    position = len(around[0])
    for message, after in zip(messages, around[1:], strict=True):
        last = len(spans) == len(messages) - 1
        for form in _forms(message):
            stop = position + len(form)
            if text.startswith(form, position) and (text[stop:] == after if last else text.startswith(after, stop)):
                break
        else:
            return None
        spans.append((position, stop))
        position = stop + len(after)
    return spans


def _found(text: str, messages: Sequence[Message]) -> list[tuple[int, int]] | None:
    """Return where each message's text stands, for templates whose own text depends on what the messages say; None
    where one is missing."""
    spans, position = [], 0
    for message in messages:
        form = next((form for form in _forms(message) if text.find(form, position) >= 0), None)
        if form is None:
            return None
        start = text.index(form, position)
        position = start + len(form)
        spans.append((start, position))
    return spans
