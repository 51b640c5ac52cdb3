"""Readings and records, streamed in order."""
