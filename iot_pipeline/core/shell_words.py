"""Commands that a sentence suggests, such that a person can paste them into a shell as they are."""

import shlex


def iot_command(*words: object, then: tuple[object, ...] = ()) -> str:
    """`iot` and its words, each quoted where the shell would read it differently.

    Args:
        words: the command, its options and their values.
        then: arguments that come from data, such as a device_id; one that begins with a dash is
            kept from being read as an option.
    """
    arguments = [str(word) for word in then]
    marker = ["--"] if any(word.startswith("-") for word in arguments) else []
    return shlex.join(["iot", *map(str, words), *marker, *arguments])
