"""Where `iot` begins. Loading its modules takes a moment, and Ctrl-C in it is no traceback."""

import os
import signal

# `cli.main` has it too, and is what is not loaded yet.
_INTERRUPTED = 130


def run() -> None:
    """Load and run `iot`."""
    before = signal.getsignal(signal.SIGINT)
    if before is not signal.SIG_IGN:  # as a shell leaves it for what runs in the background
        # Not an exception: the import under way would tell of it.
        signal.signal(signal.SIGINT, lambda *_: os._exit(_INTERRUPTED))
    from iot_pipeline.cli.main import main

    signal.signal(signal.SIGINT, before)
    main()
