"""How checks are found, what they share, and how long they may take; no check is here."""
