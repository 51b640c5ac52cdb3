"""Durations as a person says them."""

_UNITS = ((86_400.0, "d"), (3600.0, "h"), (60.0, "min"))


def in_words(seconds: float) -> str:
    """`20 ms`, `0.2 s`, `45 s`, `3 min`, `2.5 h`, `4 d`; two digits or so, maybe a minus."""
    size = abs(seconds)
    sign = "-" if seconds < 0 else ""
    for unit, name in _UNITS:
        if size >= unit * 0.9995:
            return f"{sign}{_short(size / unit)} {name}"
    if 0 < size < 0.0995:
        return f"{sign}{size * 1000:.0f} ms"
    return f"{sign}{_short(size)} s"


def _short(number: float) -> str:
    if number >= 9.95 or abs(number - round(number)) < 0.05:
        return f"{number:.0f}"
    return f"{number:.1f}"
