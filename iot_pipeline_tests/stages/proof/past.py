"""A topic whose declaration changes from run to run, and what its ledgers and rows then are."""

import dataclasses
from pathlib import Path

from hypothesis import strategies as st

from iot_pipeline.core.ledger.chain import Counts
from iot_pipeline.core.ledger.declared import DeclaredReplay
from iot_pipeline.core.proof.audit_result import DEFECTS, AuditResult, Fate
from iot_pipeline.core.reading.declaration import Declaration
from iot_pipeline.core.reading.messages import ReadingRules
from iot_pipeline.core.reading.offsets import OffsetRange
from iot_pipeline.core.times import MS_PER_DAY, day_of, moment_of
from iot_pipeline.stages.ports.ledger import Run
from iot_pipeline.stages.proof.audit import audit
from iot_pipeline.stages.proof.choosing import choose_ranges
from iot_pipeline.stages.proof.replay import plan_replay, replay
from iot_pipeline.stages.proof.replay_progress import ReplayProgress
from iot_pipeline.stages.proof.reread import Choice, choose_reading
from iot_pipeline_tests.core.reading.declared import declared
from iot_pipeline_tests.stages.fakes import NOW_MS, writer_id
from iot_pipeline_tests.stages.outside import Outside
from iot_pipeline_tests.stages.world import CONFIG, T0, World

T0_MS = int(T0 * 1000)
DAY = day_of(T0_MS // MS_PER_DAY)
KEY = ("d", T0_MS // MS_PER_DAY, T0_MS)
RUN = Run("run", writer_id(99))
HEAD = "version: 1\ndevice: {path: device_id}\ntime: {path: timestamp, as: seconds}\nquantities: "
TEXTS = {
    "one": HEAD + "{temperature: {max: 60}}",
    "both": HEAD + "{temperature: {max: 60}, humidity: {}}",
    "wider": HEAD + "{temperature: {max: 90}, humidity: {}}",
    "parts": HEAD + "{temperature: {max: 60}, humidity: {optional: true}}",
    "kelvin": HEAD + "{temperature: {shift: 273}, humidity: {}}",
    "keyed": (HEAD + "{temperature: {}, humidity: {}}").replace("{path: device_id}", "key"),
    "ignoring": HEAD + "{temperature: {}, humidity: {}}\nignore: [{path: humidity, exists: true}]",
}
DECLARED = {name: declared(text) for name, text in TEXTS.items()}


class Past:
    """A topic whose declaration changes from run to run."""

    def __init__(self, folder: Path, partitions: int = 1) -> None:
        self.folder = folder
        self.world = World(partitions=partitions)

    def outside(self, name: str) -> Outside:
        """As with that one as the present declaration."""
        path = self.folder / f"{name}.yaml"
        path.write_text(TEXTS[name])
        return Outside(self.world, reading=str(path))

    def drain(self, name: str) -> None:
        world = self.world
        world.store.names = names_of(DECLARED[name])
        world.drain(config=config_of(DECLARED[name]))

    def audit(self, name: str, **options) -> AuditResult:
        ports = dataclasses.replace(self.outside(name).ports, **options)
        return audit(choose_ranges(ports), ports, None, every_place=True)

    def replay(self, name: str, choice: Choice, *ranges: OffsetRange) -> ReplayProgress:
        """As `Connections.replay` does it."""
        world, proof = self.world, self.outside(name).ports
        plan = plan_replay(world.log, world.ledger, "iot_data", ranges).plan
        progress = ReplayProgress(plan.replay)
        for reread in choose_reading(plan, proof, choice):
            history, columns = proof.history, reread.declaration.quantities
            assert history is not None
            replay(
                dataclasses.replace(plan, replay=reread.ranges),
                dataclasses.replace(world.ports(), store=history.store_of(columns)),
                dataclasses.replace(
                    proof, declaration=reread.declaration, rows=history.rows_of(columns)
                ),
                RUN,
                config_of(reread.declaration),
                progress=progress,
                added=reread.added,
            )
        return progress


def names_of(declaration: Declaration) -> tuple[str, ...]:
    return tuple(quantity.name for quantity in declaration.quantities)


def config_of(declaration: Declaration):
    return dataclasses.replace(CONFIG, rules=ReadingRules(declaration))


def defects(result: AuditResult) -> dict[Fate, int]:
    return {fate: result.fates[fate] for fate in DEFECTS if result.fates[fate]}


def replay_letter_by_wider(past: Past) -> None:
    """As `iot dead-letters replay` of the first record by the declaration of that day."""
    world, place = past.world, ("hot", T0_MS // MS_PER_DAY, T0_MS)
    world.declarations.keep_declaration(DECLARED["wider"])
    by = DeclaredReplay("", DECLARED["wider"].fingerprint)
    counts = Counts(stored=1, stored_by_day={DAY: 1}, cells_by_day={DAY: 2})
    world.ledger.record_replay("iot_data", moment_of(NOW_MS), "letters", [], counts, by)
    written = world.log.records()[0].produced_ms * 1000
    world.store.cells[place] = {"temperature": (written, 75.0), "humidity": (written, 50.0)}
    world.store.devices[place[1]]["hot"] = T0_MS


def in_ledgers(past: Past, *, of_cells: bool = False) -> int:
    """Rows of the day that both ledgers have as stored, or their cells."""
    parts = past.world.ledger.stored_by_day("iot_data", [0], [DAY], of_cells=of_cells)
    return sum(part[DAY] for part in parts)


def cells(past: Past) -> dict[str, float]:
    return {name: value for name, (_, value) in past.world.store.cells[KEY].items()}


VALUES = st.sampled_from([0.0, 20.0, 75.0])
