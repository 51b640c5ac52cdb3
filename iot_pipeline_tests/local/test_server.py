"""One server and its process, small stand-ins for the JVM: what dies, hangs or is in the way."""

import json
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from iot_pipeline.errors import ConfigurationError, ServiceError
from iot_pipeline.local import processes
from iot_pipeline.local.compose import Service
from iot_pipeline.local.launch import Launch
from iot_pipeline.local.needs import Needs
from iot_pipeline.local.probes import cassandra_answers, kafka_answers
from iot_pipeline.local.server import Server
from iot_pipeline.local.servers import LocalServices
from iot_pipeline.settings import Settings
from iot_pipeline_tests.servers import PORTS, free_ports


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """A "Kafka" that gets a second to start and a second to stop."""
    service = Service(
        name="kafka",
        kind="kafka",
        image="apache/kafka:4.3.1",
        version="4.3.1",
        entrypoint=(),
        environment={},
        ports=(),
        mounts={},
        hostnames=frozenset(),
        start_seconds=1,
        stop_grace_seconds=1,
    )
    made = Server(service, tmp_path / "kafka")
    made.run_folder.mkdir()
    yield made
    process = made.process()
    if process is not None:
        processes.kill(process)


def start(server: Server, program: str) -> psutil.Process:
    """Run a Python program as if it were the server."""
    command = [sys.executable, "-u", "-c", program, processes.marker(server.run_folder)]
    return processes.start(command, server.run_folder, server.log)


def wait(server: Server, process: psutil.Process) -> None:
    (port,) = free_ports(1)
    server.wait(process, ("127.0.0.1", port), lambda _: None, threading.Event())


def until_it_says(server: Server, text: str) -> None:
    while text not in "".join(server.last_lines(10)):
        time.sleep(0.01)


def test_a_server_that_died_at_start_is_reported_with_its_last_words(server: Server) -> None:
    process = start(server, "print('no room\\nlast words'); raise SystemExit(3)")
    patient = Server(replace(server.service, start_seconds=60), server.run_folder)
    with pytest.raises(ServiceError) as caught:
        wait(patient, process)
    assert "kafka exited with 3 at start" in str(caught.value)
    assert str(caught.value).endswith("no room\n  last words")
    assert server.process() is None


def test_a_server_that_hangs_at_start_is_killed_and_reported(server: Server) -> None:
    process = start(server, "import time; print('thinking'); time.sleep(600)")
    until_it_says(server, "thinking")
    with pytest.raises(
        ServiceError, match=r"did not answer .* within 1 s and was killed"
    ) as caught:
        wait(server, process)
    assert "thinking" in str(caught.value)
    assert not processes.is_alive(process)


def test_a_server_runs_in_a_session_of_its_own(server: Server) -> None:
    process = start(server, "import time; time.sleep(600)")
    assert os.getsid(process.pid) == process.pid != os.getsid(0)


def test_a_server_that_does_not_stop_is_killed_after_its_grace(server: Server) -> None:
    program = "import signal, time; signal.signal(15, signal.SIG_IGN); print('ok'); time.sleep(600)"
    start(server, program)
    until_it_says(server, "ok")
    said: list[str] = []
    assert server.stop(said.append)
    assert "did not stop within 1 s and was killed" in said[0]
    assert not server.stop(said.append)


def test_a_stopped_process_is_stopped_all_the_same(server: Server) -> None:
    process = start(server, "print('ok'); import time; time.sleep(600)")
    until_it_says(server, "ok")
    process.suspend()
    said: list[str] = []
    # A grace that a loaded machine keeps: woken, it has only to take the signal that waits.
    patient = Server(replace(server.service, stop_grace_seconds=30), server.run_folder)
    assert patient.stop(said.append)
    assert "kafka stopped after" in said[0]


def test_a_server_started_where_signals_are_ignored_is_stopped_all_the_same(
    server: Server,
) -> None:
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        start(server, "print('ok'); import time; time.sleep(600)")
    finally:
        signal.signal(signal.SIGTERM, before)
    until_it_says(server, "ok")
    said: list[str] = []
    patient = Server(replace(server.service, stop_grace_seconds=30), server.run_folder)
    assert patient.stop(said.append)
    assert "kafka stopped after" in said[0]


def test_a_pid_that_belongs_to_another_process_now_is_not_ours(server: Server) -> None:
    me = psutil.Process()
    record = server.run_folder / "process.json"
    record.write_text(json.dumps({"pid": me.pid, "create_time": me.create_time()}))
    assert server.process() is None
    assert not record.exists()
    with pytest.raises(ServiceError, match="nothing to kill"):
        server.kill()


def test_a_server_that_nobody_wrote_down_is_found(server: Server) -> None:
    process = start(server, "import time; time.sleep(600)")
    (server.run_folder / "process.json").unlink()
    found = server.process()
    assert found is not None
    assert found.pid == process.pid


def test_a_record_that_was_cut_short_does_no_harm(server: Server) -> None:
    process = start(server, "import time; time.sleep(600)")
    (server.run_folder / "process.json").write_text('{"pid"')
    assert server.kill() == process.pid


def listen() -> socket.socket:
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    return listener


def test_who_holds_a_port_is_named() -> None:
    with listen() as listener:
        owner = processes.port_owner(listener.getsockname()[1])
    assert owner == processes.Owner(os.getpid(), psutil.Process().name())
    assert str(os.getpid()) in str(owner)


def test_nobody_holds_a_free_port() -> None:
    assert processes.port_owner(free_ports(1)[0]) is None


def test_a_port_in_the_way_is_reported_with_its_owner(server: Server) -> None:
    with listen() as listener:
        port = listener.getsockname()[1]
        launch = Launch(
            ("127.0.0.1", port),
            {("127.0.0.1", port): "listener HOST"},
            {},
            (),
            (),
            (),
            (),
            (),
            None,
            0,
        )
        with pytest.raises(ServiceError) as caught:
            server.check_ports(launch)
    assert f"port {port} (listener HOST) is taken by" in str(caught.value)
    assert f"(pid {os.getpid()})" in str(caught.value)


def serve_once(answer: bytes) -> int:
    """A port whose first caller gets these bytes."""
    listener = listen()

    def serve() -> None:
        with listener, listener.accept()[0] as connection:
            connection.recv(100)
            connection.sendall(answer)

    threading.Thread(target=serve, daemon=True).start()
    return int(listener.getsockname()[1])


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\x00" * 40])
def test_something_else_on_a_port_is_neither_kafka_nor_cassandra(answer: bytes) -> None:
    assert not kafka_answers("127.0.0.1", serve_once(answer))
    assert not cassandra_answers("127.0.0.1", serve_once(answer))


def services_for(tmp_path: Path, **env: str) -> tuple[LocalServices, list[str]]:
    said: list[str] = []
    ports = dict(zip(PORTS, map(str, free_ports(len(PORTS))), strict=True))
    settings = Settings.from_env({**ports, "IOT_DATA_DIR": str(tmp_path / "data"), **env})
    return LocalServices(settings, said.append), said


def test_nothing_runs_before_up(tmp_path: Path) -> None:
    services, said = services_for(tmp_path)
    assert [(s.state, s.pid) for s in services.status()] == [("stopped", None)] * 2
    assert services.down() == []
    assert said == ["kafka does not run", "cassandra does not run"] or said == [
        "cassandra does not run",
        "kafka does not run",
    ]


def test_a_server_that_is_not_on_this_machine_is_never_started(tmp_path: Path) -> None:
    # 192.0.2.0/24 is reserved for documentation: nobody answers there.
    services, _ = services_for(tmp_path, IOT_BOOTSTRAP_SERVERS="192.0.2.1:9092")
    with pytest.raises(ServiceError, match=r"192\.0\.2\.1:9092, which is not this machine"):
        services.up(["kafka"])


def test_an_address_that_up_would_not_serve_is_refused(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    services, _ = services_for(tmp_path, IOT_BOOTSTRAP_SERVERS=f"127.0.0.1:{port}")
    with pytest.raises(ConfigurationError, match="make the IOT_ variables agree"):
        services.up(["kafka"])


def test_a_foreign_process_on_a_port_is_named_and_nothing_is_started(tmp_path: Path) -> None:
    with listen() as listener:
        services, _ = services_for(tmp_path, IOT_KAFKA_PORT=str(listener.getsockname()[1]))
        with pytest.raises(ServiceError, match=rf"taken by \S+ \(pid {os.getpid()}\)"):
            services.up(["kafka"])
    assert services.status()[0].state == "stopped"


def needs(tmp_path: Path, **changed: int) -> Needs:
    sizes: dict[str, Any] = {"download_bytes": 5_000_000, "state_bytes": 1, "memory_bytes": 1}
    folders: dict[str, Any] = {"cache": tmp_path / "not" / "yet", "state_folder": tmp_path}
    return Needs(services=["kafka 4.3.1"], jars=3, **sizes | changed, **folders)


def test_what_a_start_takes_is_said(tmp_path: Path) -> None:
    sentence = needs(tmp_path, memory_bytes=2_000_000_000).sentence()
    assert sentence.startswith("starting kafka 4.3.1: fetches 3 jars, 5 MB, into ")
    assert "2,000 MB of memory" in sentence
    needs(tmp_path).check()


@pytest.mark.parametrize("what", ["download_bytes", "state_bytes", "memory_bytes"])
def test_too_little_room_is_refused_before_anything_is_fetched(tmp_path: Path, what: str) -> None:
    with pytest.raises(ServiceError, match=r"1,000,000,000,\d+ MB are needed"):
        needs(tmp_path, **{what: 10**18}).check()
