"""Facts become verdicts, with what to do about them."""
