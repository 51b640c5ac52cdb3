"""What every check answers: a verdict, its table of devices; and what tables and topics must be."""
