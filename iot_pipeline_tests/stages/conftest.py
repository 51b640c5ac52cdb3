import pytest

from iot_pipeline.stages import requests
from iot_pipeline.stages.ingest import micro_batch


@pytest.fixture(autouse=True)
def _impatient(monkeypatch):
    """Waits of a millisecond instead of seconds: what is waited for is in memory."""
    monkeypatch.setattr(requests, "FIRST_WAIT_SECONDS", 0.0001)
    monkeypatch.setattr(requests, "LONGEST_WAIT_SECONDS", 0.001)
    monkeypatch.setattr(micro_batch, "_POLL_SECONDS", 0.0005)
