"""What a command that sends shares: Ctrl-C as a flag, and progress on stderr."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Self

from iot_pipeline.cli.progress import ProgressLine
from iot_pipeline.stages.simulator.sending import SimulationResult


class Stop:
    """Turns Ctrl-C and SIGTERM into a flag while entered; a second Ctrl-C interrupts at once."""

    def __init__(self) -> None:
        self.signal_number: int | None = None
        self._before: dict[int, object] = {}

    def is_asked(self) -> bool:
        return self.signal_number is not None

    def __enter__(self) -> Self:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, self._on_signal)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]  # what signal() gave us

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        if self.signal_number is not None:
            raise KeyboardInterrupt
        self.signal_number = number


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
