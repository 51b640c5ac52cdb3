"""Whose a keyspace is, on how many nodes its rows are, and whether they survive one of them."""

from collections.abc import Mapping

from iot_pipeline.errors import ConfigurationError


def check_owner(keyspace: str, owner: str | None, topic: str) -> None:
    """Refuse a keyspace that another topic's pipeline was set up in.

    The tables of readings name no topic: rows of two topics would mix, and an audit would call the
    other topic's rows stray.

    Raises:
        ConfigurationError: `owner` is another topic; None: the keyspace belongs to none yet.
    """
    if owner is not None and owner != topic:
        raise ConfigurationError(
            f"keyspace {keyspace} belongs to topic {owner}, not to {topic}: readings of two topics "
            "would mix in its tables. Nothing was made or written. Set IOT_KEYSPACE to a name of "
            f"its own for {topic}, then run `iot setup`; or set IOT_TOPIC={owner}"
        )


def replicas_in(options: Mapping[str, str]) -> int:
    """The replicas of a keyspace by its options, in the datacenter that has the fewest."""
    counts = (int(str(value).split("/")[0]) for name, value in options.items() if name != "class")
    return min(counts, default=1)


def replicas_by_datacenter(
    wanted: int | Mapping[str, int], here: str, nodes: Mapping[str, int]
) -> dict[str, int]:
    """What a new keyspace has: a number alone is of the datacenter we talk to.

    Raises:
        ConfigurationError: a datacenter that is not there; `nodes` has those that are.
    """
    if isinstance(wanted, int):
        return {here: wanted}
    if unknown := sorted(set(wanted) - set(nodes)):
        raise ConfigurationError(
            f"IOT_KEYSPACE_REPLICATION names {', '.join(unknown)}; the datacenters are "
            f"{', '.join(sorted(nodes))}"
        )
    return dict(wanted)


def check_quorum(keyspace: str, replicas: int, nodes: int, *, is_new: bool) -> None:
    """Refuse a keyspace whose quorum is more nodes than the datacenter has, up or down.

    Raises:
        ConfigurationError: nothing could ever be written or read.
    """
    quorum = replicas // 2 + 1
    if quorum > nodes:
        remedy = (
            f"Set IOT_KEYSPACE_REPLICATION to {nodes} at most"
            if is_new
            else f"Add nodes, or ALTER KEYSPACE {keyspace} to fewer replicas"
        )
        raise ConfigurationError(
            f"keyspace {keyspace} with {replicas} replicas: each write needs {quorum} of them, and "
            f"the datacenter has {nodes} node{'' if nodes == 1 else 's'}. Nothing was "
            f"made. {remedy}"
        )


_UNKNOWN = "unknown"


def describe_durability(
    modes: Mapping[str, str], replication: int, accepted: str = ""
) -> tuple[bool, str]:
    """(is_durable, sentence): whether an acknowledged write survives kill -9 and a power cut.

    `modes` has the commitlog_sync of each node: group, batch or periodic; of one that could not be
    asked it begins with `unknown`, and what is not known is not durable. `accepted` is why nodes
    that sync periodically may be trusted (IOT_ACCEPT_PERIODIC_COMMITLOG); it counts where a row has
    several replicas.
    """
    unasked = sorted(node for node, mode in modes.items() if mode.startswith(_UNKNOWN))
    strong = {node: mode for node, mode in modes.items() if mode in ("group", "batch")}
    weak = sorted(modes.keys() - strong.keys() - set(unasked))
    mode = "/".join(sorted(set(strong.values())))
    if unasked:
        not_known = (
            "whether acknowledged writes are durable is not known of "
            f"{', '.join(f'{node}{modes[node].removeprefix(_UNKNOWN)}' for node in unasked)}"
        )
        if not weak:
            others = f"; every other node syncs before it answers ({mode})" if strong else ""
            return False, f"{not_known}{others}"
    if not weak:
        return True, f"acknowledged writes are durable: every node syncs before it answers ({mode})"
    what = "/".join(sorted({modes[node] for node in weak}))
    cost = (
        "a killed node forgets up to the newest 100 ms of acknowledged rows (a power cut: its sync "
        "period), and the checkpoint may then be ahead of them"
    )
    if replication > 1:
        quorum = replication // 2 + 1
        cost += (
            f". Of {replication} replicas {quorum} have acknowledged each row: it is lost when "
            f"{quorum} of its nodes die within that time of each other, such as by one power "
            "supply; after one of them alone a read can miss it until hints or a repair bring it "
            "back"
        )
    found = f"commitlog_sync is {what} on {', '.join(weak)}: {cost}. "
    if unasked:
        found += f"{not_known[0].upper()}{not_known[1:]}. "
    is_all = not unasked and {modes[node] for node in weak} == {"periodic"}
    if accepted and replication > 1 and is_all:
        return True, f"{found}Accepted by IOT_ACCEPT_PERIODIC_COMMITLOG: {accepted}"
    remedy = "Set commitlog_sync: group and commitlog_sync_group_window: 2ms in cassandra.yaml"
    if accepted and replication == 1:
        remedy += (
            ". IOT_ACCEPT_PERIODIC_COMMITLOG does not count with one replica: one kill is enough"
        )
    elif replication > 1:
        remedy += ", or say in IOT_ACCEPT_PERIODIC_COMMITLOG why they do not die together"
    return False, found + remedy
