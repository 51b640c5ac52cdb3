"""Which offsets a run drains, and how records become a micro-batch, one winner of each key."""
