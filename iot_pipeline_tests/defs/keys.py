"""What is called how in Dagster, of the pipeline without a name."""

from iot_pipeline.defs.checks import check_specs
from iot_pipeline.defs.pipeline import Pipeline

PIPELINE = Pipeline()
SENSOR_DATA = PIPELINE.sensor_data
HOURLY_READINGS = PIPELINE.hourly_readings
DAILY_READINGS = PIPELINE.daily_readings
CHECK_KEYS = [spec.key for spec in check_specs(PIPELINE)]
ALL_CHECKS = {key.name for key in CHECK_KEYS}  # pinned by test_definitions
