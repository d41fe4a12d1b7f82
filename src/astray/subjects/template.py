"""What a chat template does with a conversation, found out by writing one, and checked on each one that is written.

Templates trim, drop system messages, raise at them, strip reasoning, write today's date, or have no place where an
answer begins; none of it stands in their metadata. So each sequence of roles is written once with a mark for each text:
what stands around the marks is the template's own text. A conversation in which a message's text is missing is refused.
Leaves to others: token ids of what was written (encoding.py).
"""

import re
from collections.abc import Mapping, Sequence
from datetime import date
from functools import cached_property, lru_cache

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

from astray.data.chat import Message
from astray.errors import ChatTemplateError, ConfigurationError
from astray.reasoning import opened_tag, split_reasoning
from astray.subjects.encoding import Encoding, Marked, Written
from astray.subjects.identity import TEMPLATE_DATE

_MARK = "AstrayText{}Here"
_BY_CHANCE = re.compile(r"\|\s*random\b|\blipsum\s*\(")
"""What Jinja draws at random."""
_ADDRESS = re.compile(r"\bat 0x[0-9a-fA-F]{6,}")
"""What Python writes for a function or an object, another one in each process."""
_FORMS = [f"%{sign}{letter}" for sign in ("-", "") for letter in "aAbBcdfGHIjmMpSuUVwWxXyYzZ"] + ["%%"]
_CLOCK = "".join(f" | replace({form!r}, {date.fromisoformat(TEMPLATE_DATE).strftime(form)!r})" for form in _FORMS).join(
    ("{% macro strftime_now(format) %}{{ format", " }}{% endmacro %}{{ '' }}")
)
"""A clock that stands still, put before a template: it takes the place of that of transformers, which gives templates no
other function."""
_ROLE = re.compile(r"\w[\w -]{0,63}(?<! )")


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
        if not _ROLE.fullmatch(message["role"]):
            raise ConfigurationError(
                f"Message {number} has the role {message['role']!r:.80}; a role is a word, such as user, assistant or "
                "system, and spells no part of a template."
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
        self.encoding = Encoding(tokenizer, self._marked)
        self._markings: dict[tuple[tuple[str, ...], bool], Marked] = {}
        try:
            source = tokenizer.get_chat_template() if tokenizer.chat_template else ""
        except ValueError:  # several templates with names, none of which is the default
            source = ""
        if not source:
            raise ChatTemplateError(
                f"The tokenizer of {self.name!r} has no chat template, so chats cannot be written as text. "
                "Take the instruction-tuned model of the family, or set tokenizer.chat_template and save the tokenizer."
            )
        # Today's date would be another conversation tomorrow.
        self._jinja: str = (_CLOCK if "strftime_now" in source else "") + source
        if drawn := _BY_CHANCE.search(source):
            raise ChatTemplateError(
                f"The chat template of {self.name!r} writes something that is drawn at random ({drawn[0]!r}), so the "
                "model would read another conversation each time. Take it out of the template."
            )

    @cached_property
    def takes_system(self) -> bool:
        """Return whether the template has a place for a system message: it neither raises at one nor leaves its text out,
        and writes it first, also of several turns and of a finished chat."""
        self._marked(("user",), prompt=True)  # a template that cannot write even this is no matter of system messages
        for talk in (("user",), ("user", "assistant"), ("user", "assistant", "user")):
            try:
                self._marked(talk, prompt=len(talk) != 2)
            except ChatTemplateError:
                continue  # nor is one that cannot write this
            try:
                order = self._marked(("system", *talk), prompt=len(talk) != 2).order
            except ChatTemplateError:
                return False
            if order[0] != 0:  # before the last question, say, where a chat of one question would have it first
                return False
        return True

    @cached_property
    def header(self) -> str:
        """Text that the template writes before an answer and not where it asks for one: an empty thought, or a channel.

        A model that is asked writes it itself.
        """
        between = self._between
        return between if between.strip() and not split_reasoning(between).answer.strip() else ""

    @cached_property
    def gap(self) -> str:
        """Blanks that the template writes before an answer and not where it asks for one; empty for most templates.

        A model that is asked writes them itself, often within the first token of its answer.
        """
        return "" if self._between.strip() else self._between

    @cached_property
    def _between(self) -> str:
        try:
            asked = self._marked(("user",), prompt=True).around
            given = self._marked(("user", "assistant"), prompt=False).around
        except ChatTemplateError:
            return ""
        return given[1].removeprefix(asked[1]) if given[0] == asked[0] and given[1].startswith(asked[1]) else ""

    @cached_property
    def _asks_a_user(self) -> bool:
        try:
            asked = self._marked(("user",), prompt=True).around[1]
            _, before_answer, before_question, _ = self._marked(("user", "assistant", "user"), prompt=True).around
        except ChatTemplateError:
            return False
        return asked == before_question != before_answer

    def _check_asks(self) -> None:
        """Refuse a template that writes a header before an answer and not where it asks for one: the model would write it,
        or go on with the question. And one that opens another question there."""
        if self._asks_a_user:
            raise ChatTemplateError(
                f"The chat template of {self.name!r} opens a turn of the user where the model is asked for an answer, so it would "
                "write a question. Let the template write the assistant's header for add_generation_prompt."
            )
        between = self._between
        if header := split_reasoning(between).answer.strip():
            raise ChatTemplateError(
                f"The chat template of {self.name!r} writes {header!r} before an answer and not where the model is asked for "
                "one, so it would be read as a part of the answer. Let the template write it for add_generation_prompt too: "
                f"{{% if add_generation_prompt %}}{{{{ {between!r} }}}}{{% endif %}} at its end."
            )

    @cached_property
    def goes_on(self) -> str:
        """Text with which a finished chat ends as though one more answer were asked for, such as an assistant's header;
        empty for most templates.

        A template that writes it always, and not only for add_generation_prompt, would teach the model to go on.
        """
        try:
            _, between, end = self._marked(("user", "assistant"), prompt=False).around
            before_next = self._marked(("user", "assistant", "user"), prompt=False).around[2]
        except ChatTemplateError:  # takes one question alone, or none without a system text
            return ""
        shared = next(
            (n for n, pair in enumerate(zip(between, before_next, strict=False)) if len(set(pair)) > 1), len(between)
        )
        header = between[shared:].strip()
        goes_on = end.rstrip().endswith(header) and not before_next.startswith(end.rstrip())
        return end.strip() if header and goes_on else ""

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
        """Render a conversation; it contains the text of every message, in order.

        Args:
            conversation: the messages, as `placed` returns them.
            prompt: end where the next answer begins; for a last message of the assistant, where that ends.

        Raises:
            ChatTemplateError: the template refuses the conversation, or leaves a message's text out.
        """
        if prompt and conversation and conversation[-1]["role"] != "assistant":
            self._check_asks()
        text = self._apply(conversation, prompt=prompt)
        marked = self._marked(tuple(message["role"] for message in conversation), prompt=prompt)
        ordered = [conversation[index] for index in marked.order]
        aligned = _aligned(text, marked.around, ordered)
        spans = aligned or _found(text, ordered)
        if spans is None:
            self._refuse_lost(text, conversation)
        assert spans is not None
        placed = dict(zip(marked.order, spans, strict=True))
        return Written(text, tuple(placed[index] for index in range(len(conversation))), as_usual=aligned is not None)

    def _marked(self, roles: tuple[str, ...], prompt: bool) -> Marked:
        """Write messages with these roles with a mark for each text.

        Raises:
            ChatTemplateError: the template refuses these roles, leaves one's text out, or writes it twice.
        """
        if (roles, prompt) not in self._markings:
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
            self._markings[roles, prompt] = Marked(text, re.split("|".join(map(re.escape, marks)), text), order)
        return self._markings[roles, prompt]

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
        except (
            TemplateError,
            ValueError,
            TypeError,
            LookupError,
            AttributeError,
            ArithmeticError,
            RuntimeError,
        ) as error:
            raise ChatTemplateError(
                f"The chat template of {self.name!r} refuses a conversation with the roles {roles}: {error}. "
                "Write it in a form that the template takes (user and assistant in turn), or set another chat template."
            ) from error
        said = {address for message in conversation for address in _ADDRESS.findall(message["content"])}
        if address := next((found for found in _ADDRESS.findall(str(text)) if found not in said), None):
            raise ChatTemplateError(
                f"The chat template of {self.name!r} writes a function or an object in place of a text ({address!r}), which "
                "is another one in each process. Call the function, as in {{ f() }}, or take it out of the template."
            )
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
