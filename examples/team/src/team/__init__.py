"""A team's project in Dagster."""
