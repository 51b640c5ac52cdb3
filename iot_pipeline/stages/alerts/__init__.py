"""Alerts: look whether ingestion moves, compare with what was told, tell what changed."""
