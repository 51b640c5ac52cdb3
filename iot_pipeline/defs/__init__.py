"""Dagster's view of the stages: resources, assets, asset checks, jobs, sensors, schedules."""
