"""What differs between two declarations, in words: for a person who chooses between them."""

from iot_pipeline.core.reading.declaration import Declaration, TimeSource, path_text
from iot_pipeline.core.reading.quantities import NO_GREATEST, NO_LEAST, RANGES


def differences(then: Declaration, now: Declaration) -> list[str]:
    """What differs between two declarations, in words: one for each line of them that does."""
    said = [
        f"{what}: {before}, now {after}"
        for what, before, after in (
            ("device", str(then.device), str(now.device)),
            ("time", _time(then.time), _time(now.time)),
            ("format", str(then.format), str(now.format)),
        )
        if before != after
    ]
    if not said and then.format != now.format:
        said.append("the schema of the format is another one")
    said += [f"ignored no more where {rule}" for rule in then.ignore if rule not in now.ignore]
    said += [f"ignored now where {rule}" for rule in now.ignore if rule not in then.ignore]
    before, after = _by_name(then), _by_name(now)
    said += [f"{name}: no longer declared" for name in before if name not in after]
    said += [f"{name}: not declared then" for name in after if name not in before]
    for name in before.keys() & after.keys():
        changed = [
            f"{key} {value}, now {after[name][key]}"
            for key, value in before[name].items()
            if value != after[name][key]
        ]
        if changed:
            said.append(f"{name}: {', '.join(changed)}")
    if not said and then.fingerprint != now.fingerprint:
        said.append("the order of quantities or of ignored messages")
    return sorted(said)


def _time(time: TimeSource) -> str:
    return f"{time} as {time.unit}" if time.paths else str(time)


def _by_name(declaration: Declaration) -> dict[str, dict[str, str]]:
    """Of each quantity what decides about a reading, by the names that a file has for it."""
    found: dict[str, dict[str, str]] = {}
    for quantity in declaration.quantities:
        lowest, highest = RANGES.get(quantity.type, (NO_LEAST, NO_GREATEST))
        found[quantity.name] = {
            "path": " or ".join(map(path_text, quantity.places)),
            "type": quantity.type,
            "unit": quantity.unit or "none",
            "min": "none" if quantity.least <= lowest else f"{quantity.least:g}",
            "max": "none" if quantity.greatest >= highest else f"{quantity.greatest:g}",
            "scale": f"{quantity.scale:g}",
            "shift": f"{quantity.shift:g}",
            "optional": str(quantity.optional).lower(),
        }
    return found
