"""The title of a conversation that has none: how its first message begins. Pure, and costs no call of a model."""

import textwrap

_LONGEST = 60
_MARKS = "#>*-_`~ \t"


def title_of(message: str) -> str:
    """Return the first line with words of a message, without its Markdown, cut after a word to 60 characters."""
    lines = (line.strip(_MARKS) for line in message.splitlines())
    first = next((line for line in lines if any(map(str.isalnum, line))), message.strip())
    whole = " ".join(first.split())
    if len(whole) <= _LONGEST:
        return whole
    return (
        textwrap.shorten(whole, _LONGEST, placeholder=" …")
        if " " in whole[: _LONGEST - 1]
        else whole[: _LONGEST - 1] + "…"
    )
