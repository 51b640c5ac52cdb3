"""What became of every offset, and the way back from a row to its record."""
