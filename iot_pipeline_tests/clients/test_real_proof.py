"""The contracts of deletions, audits and acknowledgements, on real Cassandra."""

import pytest

from iot_pipeline.stages.ports.ledger import Acknowledgements
from iot_pipeline.stages.ports.proof import Audits, DeletionLog, MendLog
from iot_pipeline.stages.ports.readings import Declarations
from iot_pipeline_tests.pipeline import Pipeline
from iot_pipeline_tests.stages.contracts_proof import (
    AcknowledgementsContract,
    AuditsContract,
    DeclarationsContract,
    DeletionLogContract,
    MendLogContract,
)

pytestmark = pytest.mark.services


class TestCassandraDeletions(DeletionLogContract):
    @pytest.fixture
    def deletions(self, pipeline: Pipeline) -> DeletionLog:
        return pipeline.connections.deletions


class TestCassandraMendedRows(MendLogContract):
    @pytest.fixture
    def mends(self, pipeline: Pipeline) -> MendLog:
        return pipeline.connections.mends


class TestCassandraAudits(AuditsContract):
    @pytest.fixture
    def audits_world(self, pipeline: Pipeline) -> tuple[Audits, str]:
        return pipeline.connections.audits, pipeline.topic


class TestCassandraAcknowledgedLosses(AcknowledgementsContract):
    @pytest.fixture
    def acknowledgements_world(self, pipeline: Pipeline) -> tuple[Acknowledgements, str]:
        return pipeline.connections.acknowledgements, pipeline.topic


class TestCassandraDeclarations(DeclarationsContract):
    @pytest.fixture
    def declarations(self, pipeline: Pipeline) -> Declarations:
        return pipeline.connections.declarations
