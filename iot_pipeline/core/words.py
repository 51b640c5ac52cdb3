"""Words on their way out: counted, to Markdown, and to a shell, which must take them back."""

import re
import shlex
import unicodedata

_CODE = re.compile(r"(`[^`]*`)")
# What Markdown takes for itself. An underscore inside a word (IOT_TOPIC, device_2) it leaves alone.
_TAKEN = re.compile(r"[*~<\\]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])|\](?=\()")

# Embeddings, overrides and isolates, and what ends them.
_DIRECTIONS = frozenset(("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"))

_ESCAPED = re.compile(r"\\([*~<\\_\]])")


def plain(text: str) -> str:
    """The text such that the UI shows every character of it; code between backticks stays code.

    For each description and each sentence of a check: a device id or `IOT_PLAUSIBLE_*` loses its
    asterisks and underscores otherwise, and what stands between two of them becomes italic.
    """
    return _outside_code(_TAKEN, r"\\\g<0>", text)


def printable(text: str) -> str:
    """The text with a sign in the place of what is not printed.

    Invisible and direction-changing characters would show another name than the one it is, and a
    terminal obeys others.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else "\ufffd" for c in text)


def as_written(text: str) -> str:
    """What `plain` was given."""
    return _outside_code(_ESCAPED, r"\1", text)


def _outside_code(found: re.Pattern[str], by: str, text: str) -> str:
    parts = enumerate(_CODE.split(text))
    return "".join(part if number % 2 else found.sub(by, part) for number, part in parts)


def counted(count: int, one: str, many: str = "") -> str:
    """`1 row`, `2,345 rows`; `many` where an s does not make it."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def iot_command(*words: object, then: tuple[object, ...] = ()) -> str:
    """`iot` and its words, each quoted where the shell would read it differently.

    Args:
        words: the command, its options and their values.
        then: arguments that come from data, such as a device_id; one that begins with a dash is
            kept from being read as an option.
    """
    arguments = [str(word) for word in then]
    marker = ["--"] if any(word.startswith("-") for word in arguments) else []
    return " ".join(map(_quote, ["iot", *map(str, words), *marker, *arguments]))


def _quote(word: str) -> str:
    """As a shell reads it; what moves a terminal's cursor is written as an escape."""
    if not any(map(is_control, word)):
        return shlex.quote(word)
    return "$'" + "".join(map(_escape, word)) + "'"


def _escape(character: str) -> str:
    if character in "\\'":
        return f"\\{character}"
    return f"\\U{ord(character):08x}" if is_control(character) else character


def is_control(character: str) -> bool:
    """Whether it moves a terminal's cursor, or turns the direction of what follows."""
    return (
        unicodedata.category(character) == "Cc"
        or unicodedata.bidirectional(character) in _DIRECTIONS
    )
