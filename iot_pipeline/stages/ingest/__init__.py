"""From a plan to committed micro-batches."""
