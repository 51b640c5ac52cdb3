"""Which CQL a person may run through `iot cql`: one SELECT and nothing else."""

import re

from iot_pipeline.errors import ConfigurationError

# What may hide a semicolon or a keyword: strings ('' inside is a quote), quoted names, $$ strings
# and comments. Anything else is one character.
_TOKEN = re.compile(
    r"""
    (?P<quoted> '(?:[^']|'')*' | "(?:[^"]|"")*" | \$\$.*?\$\$ )
    | (?P<comment> --[^\n]* | //[^\n]* | /\*.*?\*/ )
    | (?P<code> . )
    """,
    re.VERBOSE | re.DOTALL,
)


def check_select(cql: str) -> str:
    """The statement without comments and its last semicolon, when it is one SELECT.

    In CQL a statement that begins with SELECT cannot write, so its first word and there being
    no second statement decide. Cassandra refuses the rest by its own grammar.

    Raises:
        ConfigurationError: another statement, several, or none.
    """
    code, visible = "", ""
    for match in _TOKEN.finditer(cql):
        if match.lastgroup == "comment":
            code, visible = code + " ", visible + " "
        else:
            code += match[0]
            visible += match[0] if match.lastgroup == "code" else "x" * len(match[0])
    while visible.rstrip().endswith(";"):
        length = len(visible.rstrip()) - 1
        code, visible = code[:length], visible[:length]
    words = visible.split(None, 1)
    if not words:
        raise ConfigurationError("the statement is empty: expected one SELECT")
    if ";" in visible:
        raise ConfigurationError("more than one statement: expected one SELECT")
    if words[0].upper() != "SELECT":
        raise ConfigurationError(
            f"`{words[0]}` is not SELECT: `iot cql` only reads. Use cqlsh to change things"
        )
    return code.strip()
