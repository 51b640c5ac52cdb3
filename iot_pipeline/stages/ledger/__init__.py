"""The ledger read as one picture, summed, extended and folded."""
