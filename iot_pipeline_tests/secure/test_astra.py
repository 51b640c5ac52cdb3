"""A secure connect bundle in the place of contact points: as far as it goes without Astra.

What stands in for Astra: our own metadata service, which sends the driver through TLS to a
Cassandra of these tests, as Astra's sends it to its proxy.
"""

import json
import ssl
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from iot_pipeline.clients.cassandra import CassandraClient
from iot_pipeline.errors import CassandraUnavailableError, ConfigurationError
from iot_pipeline.local.certificates import make_authority, make_certificate
from iot_pipeline.local.servers import LocalServices
from iot_pipeline.settings import Settings
from iot_pipeline_tests.pipeline import Pipeline
from iot_pipeline_tests.servers import free_ports

VARIABLE = "IOT_CASSANDRA_SECURE_CONNECT_BUNDLE"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("authority")
    make_authority(folder)
    return folder


def make_bundle(path: Path, authority: Path, **files: bytes | None) -> Path:
    """A bundle; `files` replace what it holds, by how their names begin; None leaves it out."""
    ours = make_certificate(authority, "client").read_bytes()
    content: dict[str, bytes | None] = {
        "config.json": json.dumps({"host": "127.0.0.1", "port": 1, "keyspace": ""}).encode(),
        "ca.crt": (authority / "ca.pem").read_bytes(),
        "cert": ours,
        "key": ours,
        "cqlshrc": b"of no use here",
    }
    content |= {next(n for n in content if n.startswith(name)): new for name, new in files.items()}
    with zipfile.ZipFile(path, "w") as bundle:
        for name, text in content.items():
            if text is not None:
                bundle.writestr(name, text)
    return path


def refusal(path: Path, **more: str) -> str:
    with pytest.raises(ConfigurationError) as caught:
        Settings.from_env({VARIABLE: str(path), **more})
    return str(caught.value)


def test_a_bundle_that_is_one_is_taken(authority: Path, tmp_path: Path) -> None:
    path = make_bundle(tmp_path / "good.zip", authority)
    assert Settings.from_env({VARIABLE: str(path)}).cassandra_secure_connect_bundle == str(path)


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"cert": None, "key": None}, "expected cert, key in it"),
        ({"config": b"{}"}, "expected host and port in its config.json"),
        ({"config": b"[1]"}, "expected host and port in its config.json"),
        ({"config": b'{"host": "h", "port": "many"}'}, "expected host and port"),
        ({"ca": b"no certificate"}, "expected certificates and a key as PEM"),
        ({"key": b"no key"}, "expected certificates and a key as PEM"),
        ({"cert": b"x" * 100_000}, "too large for one of a bundle"),
    ],
)
def test_what_a_bundle_lacks_is_named_before_anything_is_contacted(
    authority: Path, tmp_path: Path, files: dict[str, bytes | None], said: str
) -> None:
    path = make_bundle(tmp_path / "bad.zip", authority, **files)
    refused = refusal(path)
    assert f"{VARIABLE}={path}: " in refused
    assert said in refused


def test_what_is_no_zip_or_not_there_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "text.zip"
    path.write_text("no zip")
    assert "expected a zip file" in refusal(path)
    assert "no such file" in refusal(tmp_path / "none.zip")


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("IOT_CONTACT_POINTS", "10.0.0.1"),
        ("IOT_CASSANDRA_PORT", "9142"),
        ("IOT_CASSANDRA_SSL", "true"),
    ],
)
def test_a_bundle_and_another_way_in_are_refused_together(
    authority: Path, tmp_path: Path, variable: str, value: str
) -> None:
    path = make_bundle(tmp_path / "good.zip", authority)
    assert f"{VARIABLE} and {variable} are both set" in refusal(path, **{variable: value})


def test_no_cassandra_is_started_here_for_a_database_of_astras(
    authority: Path, tmp_path: Path
) -> None:
    path = make_bundle(tmp_path / "good.zip", authority)
    settings = Settings.from_env({VARIABLE: str(path), "IOT_DATA_DIR": str(tmp_path)})
    with pytest.raises(ConfigurationError, match=r"`iot up --only kafka` starts Kafka alone"):
        LocalServices(settings, print).up()


def test_a_metadata_service_that_is_away_is_named_and_may_be_tried_again(
    authority: Path, tmp_path: Path
) -> None:
    (port,) = free_ports(1)
    config = json.dumps({"host": "127.0.0.1", "port": port}).encode()
    path = make_bundle(tmp_path / "good.zip", authority, config=config)
    with (
        CassandraClient(Settings.from_env({VARIABLE: str(path)})) as client,
        pytest.raises(CassandraUnavailableError, match=f"metadata service.*{VARIABLE}"),
    ):
        client.execute("SELECT", doing="asking")
    assert [item.name for item in tmp_path.iterdir()] == ["good.zip"], "nothing was unpacked here"


@contextmanager
def metadata_service(authority: Path, answer: dict[str, object]) -> Iterator[int]:
    """Its port, while it runs: HTTPS, for those who show a certificate of this authority."""

    class Metadata(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps(answer).encode()
            self.send_response(200 if self.path == "/metadata" else 404)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            return

    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(authority / "ca.pem"))
    context.load_cert_chain(make_certificate(authority, "metadata"))
    context.verify_mode = ssl.CERT_REQUIRED
    server = ThreadingHTTPServer(("127.0.0.1", 0), Metadata)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()


@pytest.mark.services
def test_a_bundle_leads_to_the_nodes_and_all_commands_work_by_it(
    secure_pipeline: Pipeline, tmp_path: Path
) -> None:
    settings = secure_pipeline.settings
    authority = Path(settings.cassandra_ssl_ca_location).parent
    (node,) = secure_pipeline.connections.cassandra.execute(
        "SELECT host_id, data_center FROM system.local", doing="asking who it is"
    )
    contact = {
        "type": "sni_proxy",
        "local_dc": node.data_center,
        "contact_points": [str(node.host_id)],
        "sni_proxy_address": f"127.0.0.1:{settings.cassandra_port}",
    }
    with metadata_service(authority, {"version": 1, "contact_info": contact}) as port:
        config = json.dumps({"host": "127.0.0.1", "port": port}).encode()
        path = make_bundle(tmp_path / "bundle.zip", authority, config=config)
        env = {
            name: value
            for name, value in secure_pipeline.env.items()
            if name not in ("IOT_CONTACT_POINTS", "IOT_CASSANDRA_PORT")
            and not name.startswith("IOT_CASSANDRA_SSL")
        }
        by_bundle = Pipeline(settings, {**env, VARIABLE: str(path)}, secure_pipeline.connections)
        assert "everything was there already" in by_bundle.iot("setup")
        by_bundle.iot("drain")
        by_bundle.iot("audit", "--all")
        assert by_bundle.iot("cql", "SELECT key FROM system.local", "--json")["rows"]
