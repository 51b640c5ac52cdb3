"""The chain of ranges that runs leave behind: its sums, its losses, how it is kept short."""
