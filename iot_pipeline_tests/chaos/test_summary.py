"""When rounds of chaos ran last is kept, and told by whoever runs the tests next."""

from pathlib import Path
from types import SimpleNamespace

from iot_pipeline_tests.chaos.summary import ROUND, TALLY, keep_rounds, rounds_of, say_rounds

A_ROUND = (ROUND, {"seed": 7, "minutes": 18.0})


def report(nodeid: str, *told: tuple[str, object], when: str = "teardown") -> SimpleNamespace:
    return SimpleNamespace(nodeid=nodeid, when=when, user_properties=[*told])


def test_a_round_is_kept_by_file_with_its_kills_and_told_later(tmp_path: Path) -> None:
    stats = {
        "": [
            report("chaos/test_faults.py::a", A_ROUND, (TALLY, [40, 2, 1000, 3.5])),
            report("chaos/test_faults.py::b", A_ROUND, (TALLY, [8, 0, 1000, 1.5])),
            report("chaos/test_nodes.py::c", A_ROUND),
            report("chaos/test_short.py::d", (TALLY, [1, 0, 1, 1.0])),
        ],
        "failed": [report("chaos/test_nodes.py::c", A_ROUND, when="call")],
    }
    path = tmp_path / "rounds.json"
    assert say_rounds(path) == ["`make chaos`: no round has been kept yet"]
    other = {"seed": 7, "minutes": 18.0, "day": "2026-01-01", "commit": "1", "kills": 3}
    keep_rounds(path, {"test_other.py": {**other, "passed": True}})
    keep_rounds(path, rounds_of(stats, "abc1234", "2026-11-29"))
    assert say_rounds(path) == [
        "`make chaos` ran test_faults.py last on 2026-11-29 (commit abc1234, seed 7, 18 minutes, "
        "50 kills): passed",
        "`make chaos` ran test_nodes.py last on 2026-11-29 (commit abc1234, seed 7, 18 minutes, "
        "0 kills): FAILED",
        "`make chaos` ran test_other.py last on 2026-01-01 (commit 1, seed 7, 18 minutes, "
        "3 kills): passed",
    ]


def test_a_session_without_rounds_keeps_none() -> None:
    stats = {"passed": [report("chaos/test_short.py::d", (TALLY, [1, 0, 1, 1.0]))]}
    assert rounds_of(stats, "abc1234", "2026-11-29") == {}
