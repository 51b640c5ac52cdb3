"""Which servers one data folder has: docker-compose.yml, spread over nodes, behind doors or not.

Belongs here: what is to run, where it listens, where clients look for it. Does not belong here:
starting and stopping (`local.servers`).
"""

import os
import ssl
import uuid
from collections.abc import Collection, Sequence
from pathlib import Path

from iot_pipeline.errors import ConfigurationError, ServiceError
from iot_pipeline.local.compose import Definition, Service, find_definition, read_compose
from iot_pipeline.local.launch import Address, Launch, plan_launch
from iot_pipeline.local.nodes import Nodes
from iot_pipeline.local.secure import SecureServers
from iot_pipeline.local.server import Server
from iot_pipeline.settings import Settings
from iot_pipeline.tls import tls_context


class Description:
    """The servers of `folder`, as the compose file, the settings and the folder itself say.

    `definition` is the project's own unless given.
    """

    def __init__(
        self, settings: Settings, folder: Path, definition: Definition | None = None
    ) -> None:
        self._settings = settings
        self.folder = folder
        self.secure = SecureServers(folder / "secure")
        self.nodes = Nodes(folder / "nodes")
        self._definition = definition or find_definition()

    @property
    def volumes(self) -> Path:
        return self.folder / "volumes"

    @property
    def services_folder(self) -> Path:
        """With the locks of the jars, and what the images bring themselves."""
        return self._definition.services_folder

    def make(self, *, secure: bool, nodes: int | None) -> None:
        """Note what a new set of servers is to be; of one that is there nothing can be changed.

        Raises:
            ServiceError: it is another set than the one that is asked for.
        """
        is_new = not self.volumes.exists()
        if secure and not self.secure.is_there:
            if not is_new:
                raise ServiceError(
                    f"the servers of {self.folder} were made without --secure, and their data is "
                    "as open as they are: `iot down --wipe` deletes it, another IOT_DATA_DIR "
                    "leaves it"
                )
            self.secure.make()
        there = self.nodes.count
        if nodes is not None and nodes != there:
            if not is_new:
                raise ServiceError(
                    f"the servers of {self.folder} were made with --nodes {there}, and their data "
                    f"is spread so: `iot down --wipe` deletes it, another IOT_DATA_DIR leaves it"
                )
            self.nodes.make(nodes, self._services())
        name = self.folder / "cluster_name"
        if not name.exists():
            name.write_text(f"iot_pipeline-{uuid.uuid4().hex[:12]}\n", encoding="utf-8")

    def servers(self, only: Collection[str] = ()) -> list[Server]:
        """All, or those of these names; the name of a service means all its nodes.

        Raises:
            ConfigurationError: there is no server of such a name.
        """
        found: list[tuple[str, Service]] = [
            (name, node)
            for name, service in self._services().items()
            for node in self.nodes.spread(service, self.volumes)
        ]
        known = [name for service, node in found for name in (service, node.name)]
        for name in only:
            if name not in known:
                raise ConfigurationError(
                    f"{name}: no such service in {self._definition.compose_file}; there are "
                    f"{', '.join(node.name for _, node in found)}"
                )
        tls = self._tls()
        return [
            Server(
                self.secure.secured(node) if self.secure.is_there else node,
                self.folder / node.name,
                tls[node.kind],
            )
            for name, node in found
            if not only or name in only or node.name in only
        ]

    def plan(self, server: Server, classpath: Sequence[Path] = ()) -> Launch:
        """How the server is started; with an empty classpath, all that can be said before."""
        launch = plan_launch(server.service, self.services_folder, server.run_folder, classpath)
        return self.secure.launched(server.service, launch) if self.secure.is_there else launch

    def addresses(self, server: Server) -> list[Address]:
        """Where its clients look for it: its own address where there are several of its kind."""
        asked = self.addresses_in_settings(server)
        if self.nodes.count == 1:
            return asked
        settings = self._settings
        is_kafka = server.service.kind == "kafka"
        port = settings.kafka_port if is_kafka else settings.cassandra_port
        return [(server.service.address, port)]

    def addresses_in_settings(self, server: Server) -> list[Address]:
        """Where the settings say that servers of this kind are."""
        settings = self._settings
        if server.service.kind == "cassandra":
            return [(host.strip("[]"), settings.cassandra_port) for host in settings.contact_points]
        pairs = (part.strip().rpartition(":") for part in settings.bootstrap_servers.split(","))
        return [(host.strip("[]"), int(port)) for host, _, port in pairs]

    def environment(self) -> dict[str, str]:
        """The settings that a client needs besides the defaults; empty for plain single servers."""
        nodes = self.nodes.environment(self._settings) if self.nodes.count > 1 else {}
        return nodes | (self.secure.environment() if self.secure.is_there else {})

    def _services(self) -> dict[str, Service]:
        return read_compose(self._definition.compose_file, self._variables(), self.volumes)

    def _variables(self) -> dict[str, str]:
        # What Compose would see; IOT_ variables through the settings, which read .env and know
        # the defaults.
        ours = {variable: value for variable, value, *_ in self._settings.rows()}
        others = {name: value for name, value in os.environ.items() if name[:4] != "IOT_"}
        cluster_name = self._settings.cluster_name or self._cluster_name()
        return others | ours | {"IOT_CLUSTER_NAME": cluster_name}

    def _cluster_name(self) -> str:
        try:
            return (self.folder / "cluster_name").read_text(encoding="utf-8").strip()
        except FileNotFoundError:
            return "not-started-yet"

    def _tls(self) -> dict[str, ssl.SSLContext | None]:
        """What a probe of each kind of server has to trust; None where it speaks plain text."""
        if self.secure.is_there:
            return dict.fromkeys(("kafka", "cassandra"), self.secure.tls)
        settings = self._settings
        return {
            "kafka": tls_context(settings.kafka_tls),
            "cassandra": tls_context(settings.cassandra_tls),
        }
