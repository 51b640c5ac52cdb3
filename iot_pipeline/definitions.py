"""What Dagster loads; opens no connection at import."""
