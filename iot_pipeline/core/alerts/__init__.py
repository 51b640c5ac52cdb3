"""Who is told what: which changes of how things stand make a message, and what it says."""
