"""A fleet of devices, its faults, and what it sends when."""
