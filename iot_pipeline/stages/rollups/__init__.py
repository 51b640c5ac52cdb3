"""Rebuild the rollups of days, and compare them with their rows."""
