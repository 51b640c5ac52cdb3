"""What happens to nodes that are well: cut off from clients or other nodes, or a wrong clock."""

import random
import time

from iot_pipeline_tests.chaos.cut_off import CutOffServices, c_compiler, step_clock
from iot_pipeline_tests.chaos.doors import MANNERS, Side
from iot_pipeline_tests.chaos.faults import FROZEN_SECONDS
from iot_pipeline_tests.chaos.nodes import COUNT, Fault, Nodes, node


def cut_off_from(side: Side) -> Fault:
    """A leader of Kafka and a node of Cassandra cannot be reached from this side.

    From the other nodes: others lead and answer in their place, and ingestion goes on. From
    clients: the leader leads on, so its Kafka partitions wait for the end of it.
    """

    def fault(nodes: Nodes, dice: random.Random) -> None:
        services = nodes.world.services
        assert isinstance(services, CutOffServices)
        manner = dice.choice(MANNERS)
        names = node("kafka", nodes.leader(dice)), node("cassandra", dice.randint(1, COUNT))
        name = f"{' and '.join(names)} cut off from {side}, {manner}"
        nodes.watch.start_again()
        with (
            nodes.watch.without(int(names[1][-1])),
            services.doors.cut(names[0], side, manner),
            services.doors.cut(names[1], side, manner),
        ):
            nodes.count(f"cut off from {side}", 2)
            if side == "nodes":
                nodes.goes_on(name)
            else:
                time.sleep(dice.uniform(*FROZEN_SECONDS))
        nodes.watch.start_again()
        nodes.goes_on(f"after {name}")

    return fault


_OFF_SECONDS = 3600


def stepped_clocks(nodes: Nodes, dice: random.Random) -> None:
    """The clocks of a broker and of a node of Cassandra are an hour wrong at once, then right."""
    services = nodes.world.services
    assert isinstance(services, CutOffServices)
    off = dice.choice((-_OFF_SECONDS, _OFF_SECONDS))
    names = " and ".join(services.clocks)
    for seconds, name in ((off, f"clocks of {names} {off:+d} s"), (0, f"clocks of {names} right")):
        nodes.watch.start_again()
        for clock in services.clocks.values():
            step_clock(clock, seconds)
        nodes.count("step of a clock", len(services.clocks))
        nodes.goes_on(name)


CUTS: dict[str, Fault] = {
    "one of each cut off from clients": cut_off_from("clients"),
    "one of each cut off from the other nodes": cut_off_from("nodes"),
}
# Without a C compiler the summary says that it was not tried.
CLOCKS: dict[str, Fault] = {"wrong clocks": stepped_clocks} if c_compiler() else {}
