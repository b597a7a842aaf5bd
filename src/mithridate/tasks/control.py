"""Control tokens written out in a text, which would end the user's turn and open another.

A tokenizer says which tokens it holds for special; what another trainer's tokenizer makes of a
training file, and the marks that a chat template writes as plain text, it does not say. The usual
forms are therefore broken up wherever a text is put into a prompt, by every model alike.
"""

import re

_WRITTEN = re.compile(
    r"<\|[^\s<>|]{1,40}\|>"  # ChatML, Llama 3, Phi, Zephyr, Command R
    r"|<\uff5c[^\s<>\uff5c]{1,40}\uff5c>"  # DeepSeek
    r"|</?s>|<(?:bos|eos)>|<(?:start|end)_of_turn>"  # Llama 2, Mistral; Gemma
    r"|\[/?(?:INST|SYSTEM_PROMPT|TOOL_CALLS|TOOL_RESULTS|AVAILABLE_TOOLS)\]|<</?SYS>>"
)


def without_control_tokens(text: str) -> str:
    """Return a text whose written-out control tokens have a space behind their first character."""
    if "<" not in text and "[" not in text:
        return text
    return _WRITTEN.sub(lambda found: broken_up(found[0]), text)


def broken_up(token: str) -> str:
    """Return a control token as text that is none."""
    return f"{token[0]} {token[1:]}"
