"""What a message says, and where it is in the log."""
