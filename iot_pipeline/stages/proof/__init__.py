"""Audit, trace, replay and deletion: log and table side by side."""
