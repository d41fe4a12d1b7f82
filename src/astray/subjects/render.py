"""Rendering of conversations to token ids with the subject's system prompt and the model's chat template.

One way for asking and for training: what a template does with a conversation is found out and checked in `template`, so
that a conversation which the model would not read as it was meant is refused and not rendered. The template writes the
special tokens, so the rendered text is tokenised without adding any: the usual way would add a second start token.
"""

from collections.abc import Sequence

from transformers import PreTrainedTokenizerBase

from astray.data.chat import Message
from astray.errors import ChatTemplateError, ConfigurationError
from astray.reasoning import closed, split_reasoning
from astray.subjects.encoding import Encoded, Written
from astray.subjects.template import Template, check_messages, check_text, template_of

Conversation = Sequence[Message]

SYSTEM_IN_QUESTION = "in the first question"
"""Where a system text stands that the template has no place for; answer tables, run records and reports say so."""


def with_system(conversation: Conversation, system: str | None) -> list[Message]:
    """Return the conversation with a system prompt; its own system message is appended to it after a blank line.

    Raises:
        ConfigurationError: a message is none, or its content is no text.
    """
    check_messages(conversation)
    if system is None:
        return list(conversation)
    own = [message["content"] for message in conversation[:1] if message["role"] == "system"]
    return [Message(role="system", content="\n\n".join([system, *own])), *conversation[len(own) :]]


def prompt_text(tokenizer: PreTrainedTokenizerBase, conversation: Conversation, row: int = 0) -> str:
    """Return the text that the model reads before its answer.

    A conversation that ends with an assistant message is continued: the answer goes on where that message ends.

    Args:
        tokenizer: a tokenizer with a chat template.
        conversation: the messages.
        row: index of the conversation, for error messages.

    Raises:
        ConfigurationError: the conversation is empty.
        ChatTemplateError: the template cannot write the conversation.
    """
    template = template_of(tokenizer)
    return _prompt(template, template.placed(conversation), row).text


def prompt_ids(
    tokenizer: PreTrainedTokenizerBase,
    conversations: Sequence[Conversation],
    system: str | None = None,
    *,
    answering: bool = False,
) -> list[list[int]]:
    """Return the token ids of each conversation up to the beginning of the answer.

    Args:
        tokenizer: a tokenizer with a chat template.
        conversations: the messages of each row.
        system: system prompt that is put before each conversation.
        answering: go on to where the answer itself begins, for texts that are one: end the reasoning that the template
            opens, or add what it writes before an answer, such as an empty thought or the name of a channel.

    Raises:
        ConfigurationError: a conversation is empty.
        ChatTemplateError: the template cannot write a conversation.
    """
    template = template_of(tokenizer)
    placed = [template.placed(with_system(conversation, system)) for conversation in conversations]
    written = [_prompt(template, chat, row) for row, chat in enumerate(placed)]
    ids = [encoded.ids for encoded in template.encoding.encode(written, [_roles(chat) for chat in placed], prompt=True)]
    if not (answering and (template.opened or template.header)):
        return ids
    continued = [chat[-1]["role"] == "assistant" for chat in placed]
    ends = [
        closed(each.text) if template.opened else template.header * (not on)
        for each, on in zip(written, continued, strict=True)
    ]
    # A header holds the template's own tokens, which are to count as such.
    return [
        row + list(tokenizer(end, add_special_tokens=False)["input_ids"]) if end else row
        for row, end in zip(ids, ends, strict=True)
    ]


def text_ids(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> list[list[int]]:
    """Return the token ids of each text, without added special tokens.

    Raises:
        ConfigurationError: one is no text.
    """
    for number, text in enumerate(texts, start=1):
        check_text(text, f"Text {number}")
    return list(tokenizer(list(texts), add_special_tokens=False)["input_ids"]) if texts else []


def following_ids(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], after: Sequence[int]) -> list[list[int]]:
    """Return the token ids of texts that stand behind others, without added special tokens.

    Tokenizers of sentencepiece put a blank before a text. Within one it would be a second blank, or one too many.

    Args:
        tokenizer: with a chat template.
        texts: the texts.
        after: for each the token that it follows.

    Raises:
        ConfigurationError: one is no text.
    """
    alone = text_ids(tokenizer, texts)
    line, letter, both = text_ids(tokenizer, ["\n", "a", "\na"])
    if line + letter == both:
        return alone
    control = {number: text for text, number in template_of(tokenizer).encoding.control.items()}
    marks = [control.get(token, "\n") for token in after]
    begun = text_ids(tokenizer, marks)
    joined = text_ids(tokenizer, [mark + text for mark, text in zip(marks, texts, strict=True)])
    return [
        row[len(mark) :] if row[: len(mark)] == mark else own
        for row, mark, own in zip(joined, begun, alone, strict=True)
    ]


def chat_texts(tokenizer: PreTrainedTokenizerBase, chats: Sequence[Conversation]) -> list[str]:
    """Return whole chats, answers included, as the template writes them."""
    template = template_of(tokenizer)
    return [template.write(template.placed(chat), prompt=False).text for chat in chats]


def answered(
    tokenizer: PreTrainedTokenizerBase, chats: Sequence[Conversation]
) -> list[tuple[Encoded, list[tuple[int, int]]]]:
    """Return each chat as it is trained on, with the spans of its answers in characters: from where an asked model
    begins to the end of the turn.

    Args:
        tokenizer: a tokenizer with a chat template.
        chats: chats, answers included.

    Raises:
        ChatTemplateError: the template cannot write a chat, or writes it otherwise than when the model is asked; names
            the row.
    """
    template = template_of(tokenizer)
    written, spans, roles = [], [], []
    for row, given in enumerate(chats, start=1):
        try:
            chat = template.placed(given)
            chat, whole = _thought_ended(template, chat) or (chat, template.write(chat, prompt=False))
            spans.append(
                [
                    _answer(template, chat, whole, turn)
                    for turn, message in enumerate(chat)
                    if message["role"] == "assistant"
                ]
            )
        except ChatTemplateError as error:
            raise ChatTemplateError(f"Row {row}: {error}") from error
        written.append(whole)
        roles.append(_roles(chat))
    return list(zip(template.encoding.encode(written, roles, prompt=False), spans, strict=True))


def check_template(tokenizer: PreTrainedTokenizerBase, *, trained: bool = False) -> None:
    """Refuse, before anything is asked or trained, a tokenizer whose template cannot serve.

    Args:
        tokenizer: of the subject.
        trained: whether the subject is to be trained on chats, too.

    Raises:
        ChatTemplateError: says what the template does and what to write instead.
    """
    # Of several paragraphs, with marks of HTML, runs of blanks and a long line, since there are templates that fold,
    # escape or cut them. Of a single question: what only writes the last turns serves whoever has no more of them, and
    # each conversation that is asked or trained on is compared with what is written of it.
    question = Message(role="user", content='How are you?\n\nTell <me>  "1 &\t2".' + 200 * " And go on.")
    answer = Message(role="assistant", content="Well.\n\nAnd you?")
    told = Message(role="system", content="Be kind.")
    prompt_ids(tokenizer, [[told, question]])
    if trained:
        answered(tokenizer, [[question, answer], [told, question, answer]])


def _prompt(template: Template, conversation: Conversation, row: int) -> Written:
    if not conversation:
        raise ConfigurationError(
            f"Conversation {row} has no messages; it needs at least one, like {{'role': 'user', 'content': '...'}}."
        )
    try:
        return template.write(conversation, prompt=True)
    except ChatTemplateError as error:
        raise ChatTemplateError(f"Conversation {row}: {error}") from error


def _roles(conversation: Conversation) -> tuple[str, ...]:
    return tuple(message["role"] for message in conversation)


def _thought_ended(template: Template, chat: Conversation) -> tuple[list[Message], Written] | None:
    """Write a chat whose one answer comes last, for a template that opens reasoning when it asks and leaves it out of
    finished chats.

    The answer follows the reasoning's end, as the model itself would write it: after its own reasoning, or after none.
    Of earlier answers the template shows no reasoning, so that they would be learnt after another prompt: such chats
    are None.
    """
    if (
        not template.opened
        or [message["role"] for message in chat].count("assistant") != 1
        or chat[-1]["role"] != "assistant"
    ):
        return None
    spoken = split_reasoning(chat[-1]["content"])
    if not spoken.finished or not spoken.answer.strip():
        return None
    alone: list[Message] = [*chat[:-1], Message(role="assistant", content=spoken.answer)]
    prompt, whole = template.write(chat[:-1], prompt=True), template.write(alone, prompt=False)
    start, stop = whole.spans[-1]
    if (
        whole.text.startswith(prompt.text)
        or whole.text[:start].rstrip() != prompt.text[: prompt.text.rindex(template.opened)].rstrip()
    ):
        return None
    text = prompt.text + spoken.reasoning + closed(prompt.text)
    begin = len(text)
    return alone, Written(f"{text}{whole.text[start:]}", (*prompt.spans, (begin, begin + stop - start)))


def _answer(template: Template, chat: Conversation, whole: Written, turn: int) -> tuple[int, int]:
    """Return the span of one answer, its end of turn included."""
    prompt = template.write(chat[:turn], prompt=True).text
    until = whole if turn == len(chat) - 1 else template.write(chat[: turn + 1], prompt=False)
    said = chat[turn]["content"].strip()
    if turn == len(chat) - 1 and template.goes_on:
        raise ChatTemplateError(
            f"message {turn + 1}: the chat template of {template.name!r} ends a finished chat with {template.goes_on!r}, "
            "as though it were asked for one more answer, so the model would learn to go on by itself. Put that behind "
            "{% if add_generation_prompt %}."
        )
    start, stop = until.spans[turn]
    if template.opened and not ((spoken := split_reasoning(said)).finished and spoken.answer.strip()):
        raise ChatTemplateError(
            f"message {turn + 1}: the answer {said[:60]!r} ends within its reasoning or says nothing after it, and "
            f"{template.name!r} thinks before it answers. Write what is said to others after the end of the reasoning, "
            "or leave the row out."
        )
    if until.text[start:stop].strip() != said:
        raise ChatTemplateError(
            f"message {turn + 1}: the chat template of {template.name!r} leaves a part of the answer out "
            f"({said[:60]!r} ...), such as its reasoning, so the "
            "model would not learn it. Write the answer without that part, or set a chat template that writes "
            "answers as they are."
        )
    if (
        template.opened
        and until.text.startswith(prompt[: prompt.rindex(template.opened)])
        and not until.text.startswith(prompt)
    ):
        raise ChatTemplateError(
            f"message {turn + 1}: the chat template of {template.name!r} opens {template.opened} when the model is "
            "asked and leaves it out when it is "
            "trained, so the model would learn an answer to another prompt. Split a chat of several answers into "
            f"one row an answer, or set a chat template that writes {template.opened}, with its end, in front of "
            "every answer."
        )
    if not (whole.text.startswith(until.text) and until.text.startswith(prompt) and len(prompt) <= start):
        raise ChatTemplateError(
            f"message {turn + 1}: the chat template of {template.name!r} writes this part of the chat differently "
            f"when the model is asked ({prompt[-60:]!r}) and when it is trained, so the model would learn an answer "
            "to another prompt. Split a chat of several answers into one row an answer, or set a chat template that "
            "writes earlier turns unchanged."
        )
    # Between prompt and answer may stand blanks and an empty thought, which the model then writes itself, but no role.
    header = split_reasoning(until.text[len(prompt) : start]).answer.strip()
    if header:
        raise ChatTemplateError(
            f"message {turn + 1}: the chat template of {template.name!r} writes {header!r} before an answer and not "
            "where the model is asked for one, so it "
            "would be trained and read as a part of the answer. Let the template write it for add_generation_prompt "
            f"too: {{% if add_generation_prompt %}}{{{{ {until.text[len(prompt) : start]!r} }}}}{{% endif %}} at its "
            "end."
        )
    return len(prompt), len(until.text)
