"""Durations as a person says them."""

_UNITS = ((86_400.0, "d"), (3600.0, "h"), (60.0, "min"))


def in_words(seconds: float) -> str:
    """`0.2 s`, `45 s`, `3 min`, `2.5 h`, `4 d`; two digits or so, a minus when it is negative."""
    size = abs(seconds)
    sign = "-" if seconds < 0 else ""
    for unit, name in _UNITS:
        if size >= unit * 0.9995:
            return f"{sign}{_short(size / unit)} {name}"
    return f"{sign}{_short(size)} s"


def _short(number: float) -> str:
    if number >= 9.95 or abs(number - round(number)) < 0.05:
        return f"{number:.0f}"
    return f"{number:.1f}"
