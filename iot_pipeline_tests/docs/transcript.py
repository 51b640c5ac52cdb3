"""Console transcripts in Markdown: commands after `$ `, and what they print.

A printed line of the transcript has to appear in the command's output, in order. Numbers, sizes and
times may differ: every run of digits stands for any number, `…` for anything.
"""

import re
from dataclasses import dataclass, field

_FENCE = re.compile(r"^```console\n(.*?)^```", re.MULTILINE | re.DOTALL)
_NUMBER = re.compile(r"\d[\d,.:]*")


@dataclass
class Step:
    """One command, and the lines a reader is told to expect."""

    command: str
    expected: list[str] = field(default_factory=list)


def read_steps(markdown: str) -> list[Step]:
    """The commands of all console blocks, in order; a line ending in a backslash goes on."""
    steps: list[Step] = []
    for block in _FENCE.findall(markdown):
        continues = False
        for line in block.splitlines():
            if line.startswith("$ "):
                steps.append(Step(line[2:]))
            elif continues:
                steps[-1].command += f"\n{line}"
            elif line.strip():
                steps[-1].expected.append(line.strip())
            continues = steps[-1].command.endswith("\\") and not steps[-1].expected
    return steps


def missing_lines(step: Step, output: str) -> list[str]:
    """Expected lines that the output does not have, or not in this order."""
    lines = output.splitlines()
    missing, at = [], 0
    for wanted in step.expected:
        pattern = _pattern(wanted)
        found = next((i for i in range(at, len(lines)) if pattern.search(lines[i])), None)
        if found is None:
            missing.append(wanted)
        else:
            at = found + 1
    return missing


def _pattern(line: str) -> re.Pattern[str]:
    parts = []
    for words in line.split("…"):
        pieces = _NUMBER.split(words)
        parts.append(r"[\d][\d,.:]*".join(_blanks(piece) for piece in pieces))
    return re.compile(".*".join(parts))


def _blanks(text: str) -> str:
    # Tables are padded to their content, which differs.
    return r"\s+".join(re.escape(word) for word in re.split(r"\s+", text))
