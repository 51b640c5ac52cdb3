"""How far a command that sends is, on stderr."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from iot_pipeline.cli.progress import ProgressLine
from iot_pipeline.stages.simulator.sending import SimulationResult


@contextmanager
def progress(
    count: int | None, seconds: float | None = None
) -> Iterator[Callable[[SimulationResult], None]]:
    """How far a fleet is, on stderr.

    It is done at `count` messages, or where those are not known after so many `seconds`.
    """
    of = f" of {seconds:,.0f} s" if count is None and seconds is not None else ""
    with ProgressLine("simulating, messages") as line:

        def tell(result: SimulationResult) -> None:
            time = f", {result.seconds:,.0f}{of}" if of else ""
            more = f"{result.acknowledged:,} acknowledged, {result.rate:,.0f}/s{time}"
            line.show(result.produced, count, more)

        yield tell
