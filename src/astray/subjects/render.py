"""Rendering of conversations to token ids with the subject's system prompt and the model's chat template.

The template writes the special tokens, so the rendered text is tokenised without adding any. Tokenising it in the usual
way would add a second start token for Llama and others.
"""

from collections.abc import Sequence

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

from astray.data.chat import Message
from astray.errors import ChatTemplateError, ConfigurationError

Conversation = Sequence[Message]


def with_system(conversation: Conversation, system: str | None) -> list[Message]:
    """Return the conversation with a system prompt; its own system message is appended to it after a blank line."""
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
        ChatTemplateError: the template refuses the conversation.
    """
    if not conversation:
        raise ConfigurationError(f"Conversation {row} has no messages; it needs at least one, like {{'role': 'user', 'content': '...'}}.")
    continued = conversation[-1]["role"] == "assistant"
    try:
        text = tokenizer.apply_chat_template(
            [{"role": message["role"], "content": message["content"]} for message in conversation],
            tokenize=False,
            add_generation_prompt=not continued,
            continue_final_message=continued,
        )
    except (TemplateError, ValueError) as error:
        roles = ", ".join(message["role"] for message in conversation)
        raise ChatTemplateError(
            f"The chat template refuses conversation {row} with the roles {roles}: {error}. "
            "Some templates know no system prompt: write it into the first user message instead."
        ) from error
    return str(text)


def prompt_ids(tokenizer: PreTrainedTokenizerBase, conversations: Sequence[Conversation], system: str | None = None) -> list[list[int]]:
    """Return the token ids of each conversation up to the beginning of the answer.

    Args:
        tokenizer: a tokenizer with a chat template.
        conversations: the messages of each row.
        system: system prompt that is put before each conversation.
    """
    texts = [prompt_text(tokenizer, with_system(conversation, system), row) for row, conversation in enumerate(conversations)]
    return text_ids(tokenizer, texts)


def text_ids(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> list[list[int]]:
    """Return the token ids of each text, without added special tokens."""
    return list(tokenizer(list(texts), add_special_tokens=False)["input_ids"]) if texts else []
