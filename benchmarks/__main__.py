"""`python -m benchmarks`: interleaved rounds on servers of its own, within a time budget.

Method: Kafka and Cassandra are started once per commit log mode, on free ports and in a folder of
their own, and warmed up by one uncounted run of every contender (the JVMs compile meanwhile). A
round runs every contender once, so what shakes the machine shakes all of them; ratios are taken
within a round. Every run has a fresh keyspace and is verified by count and by sample. What no
longer fits the time budget is left out and named.
"""

import argparse
import os
import sys
import time
from pathlib import Path

from benchmarks import report
from benchmarks.bench import Bench, Wanted, say
from iot_pipeline.local.nodes import COUNTS

_FULL_MINUTES = 24 * 60
_DOCS = Path("docs") / "performance.md"


def _numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",") if part]


def main() -> None:
    """Measure, and leave a table, JSON and a plot."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--minutes", type=float, default=30, help="time budget, about")
    parser.add_argument("--rows", type=int, default=1_000_000, help="messages of the fastest")
    parser.add_argument("--devices", type=_numbers, default=[1_000, 10_000, 100_000, 100, 10])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--partitions", type=int, default=4, help="of the topic, at least 2")
    parser.add_argument("--rates", type=_numbers, default=[1_000, 5_000, 20_000], help="following")
    parser.add_argument("--follow-seconds", type=float, default=30)
    parser.add_argument("--follow-devices", type=int, default=1000)
    parser.add_argument("--commitlogs", type=lambda t: t.split(","), default=["group", "periodic"])
    parser.add_argument(
        "--formats",
        type=lambda t: t.split(","),
        default=[],
        help="json,avro,protobuf,json-schema: the same readings in each, through a schema registry",
    )
    parser.add_argument(
        "--lanes",
        type=_numbers,
        default=[],
        help="1,2,4: that many processes on one topic, drained in turn and followed",
    )
    parser.add_argument(
        "--contenders",
        type=lambda t: t.split(","),
        default=[],
        help="packed,before,driver,handwritten,bento,spark: these alone, no other series",
    )
    parser.add_argument(
        "--nodes", type=int, choices=COUNTS, default=1, help="of each server; 3: three replicas"
    )
    parser.add_argument("--before", type=Path, help="a checkout of another commit, measured too")
    parser.add_argument("--full", action="store_true", help="peers too, however long it takes")
    parser.add_argument("--docs", action="store_true", help=f"write the results into {_DOCS}")
    parser.add_argument("--out", type=Path, default=Path("data") / "bench")
    given = vars(parser.parse_args())
    writes_docs = given.pop("docs")
    if given["full"]:
        given["minutes"] = _FULL_MINUTES
        given["follow_seconds"] = max(given["follow_seconds"], 300)
    load_before = os.getloadavg()[0]
    say(f"load average before: {load_before:.1f} on {os.cpu_count()} cores")
    wanted = Wanted(**given)
    bench = Bench(wanted)
    bench.found.command = " ".join(["python -m benchmarks", *sys.argv[1:]])
    today = time.strftime("%Y-%m-%d")
    bench.found.machine = f"{today}, {os.cpu_count()} cores, load average before {load_before:.1f}"
    if wanted.nodes > 1:
        bench.found.machine += f", {wanted.nodes} nodes of each server"
    bench.run()
    print(report.text(bench.found))
    print(f"written to {wanted.out}/: table.md, results.json, throughput.png")
    if writes_docs:
        report.write_docs(bench.found, wanted.out, _DOCS)
        print(f"and to {_DOCS}")


if __name__ == "__main__":
    main()
