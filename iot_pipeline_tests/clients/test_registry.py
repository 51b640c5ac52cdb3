"""The registry's client: which answer is nothing, which is asked for again, which is a person's."""

import json
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from iot_pipeline.clients.registry import SchemaRegistry
from iot_pipeline.core.reading.formats import Unknown, WriterSchema
from iot_pipeline.errors import PermanentError, PipelineError, RegistryUnavailableError
from iot_pipeline.local.certificates import make_authority, make_certificate
from iot_pipeline.settings import Settings

AVRO = '{"type": "record", "name": "R", "fields": []}'


@dataclass
class Answers:
    """What an HTTP server answers to each path: a status, and what it says."""

    server: ThreadingHTTPServer
    url: str = ""
    by_path: dict[str, tuple[int, Any]] = field(default_factory=dict)
    logins: list[str | None] = field(default_factory=list)


@pytest.fixture
def answers() -> Iterator[Answers]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            told.logins.append(self.headers.get("Authorization"))
            status, said = told.by_path.get(self.path, (404, "<html>no such page</html>"))
            self.send_response(status)
            if status == 302:
                self.send_header("Location", str(said))
            self.end_headers()
            self.wfile.write((said if isinstance(said, str) else json.dumps(said)).encode())

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    told = Answers(server)
    told.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    yield told
    server.shutdown()
    server.server_close()


def registry(url: str, **more: str) -> SchemaRegistry:
    return SchemaRegistry(Settings.from_env({"IOT_REGISTRY_URL": url, **more}))


def test_a_schema_comes_with_what_it_refers_to_each_before_who_names_it(answers: Answers) -> None:
    def reference(name: str) -> dict[str, Any]:
        return {"name": name, "subject": f"{name}/s", "version": 3}

    answers.by_path = {
        "/schemas/ids/5": (200, {"schema": AVRO, "references": [reference("a"), reference("b")]}),
        "/subjects/a%2Fs/versions/3": (200, {"schema": "A", "references": [reference("b")]}),
        "/subjects/b%2Fs/versions/3": (200, {"schema": "B"}),
    }
    found = registry(answers.url).find(5)
    assert found == WriterSchema("AVRO", AVRO.encode(), (b"B", b"A"))


def test_protobuf_comes_compiled_with_its_imports(answers: Answers) -> None:
    other = {"name": "d/o.proto", "subject": "o", "version": 1}
    text = 'syntax = "proto3"; import "d/o.proto"; message M { O o = 1; }'
    answers.by_path = {
        "/schemas/ids/5": (200, {"schema": text, "schemaType": "PROTOBUF", "references": [other]}),
        "/schemas/ids/6": (200, {"schema": "message", "schemaType": "PROTOBUF"}),
        "/subjects/o/versions/1": (200, {"schema": 'syntax = "proto3"; message O {}'}),
    }
    found = registry(answers.url).find(5)
    assert isinstance(found, WriterSchema)
    assert b"d/o.proto" in found.text
    broken = registry(answers.url).find(6)
    assert isinstance(broken, Unknown)
    assert broken.why.startswith("its schema cannot be read (the_schema.proto:1:")


@pytest.mark.parametrize(
    ("status", "said", "kind", "words"),
    [
        (
            500,
            {"error_code": 50001, "message": "backend"},
            RegistryUnavailableError,
            "500: backend",
        ),
        (429, "slow down", RegistryUnavailableError, "answered 429"),
        (401, {"message": "x"}, PermanentError, "asks for a login (401): IOT_REGISTRY_USERNAME"),
        (404, "<html>no</html>", PermanentError, "not as a schema registry does. Is IOT_REGISTRY"),
        (404, {"error_code": 404, "message": "page"}, PermanentError, "answered 404: page, not as"),
        (302, "http://127.0.0.1:9/", PermanentError, "answered 302"),
        (200, "hello", PermanentError, "answered 200, not as a schema registry does"),
    ],
)
def test_only_the_registrys_own_words_mean_that_there_is_no_schema(
    answers: Answers, status: int, said: Any, kind: type[PipelineError], words: str
) -> None:
    answers.by_path = {"/schemas/ids/5": (status, said)}
    with pytest.raises(PipelineError) as caught:
        registry(answers.url).find(5)
    assert type(caught.value) is kind
    assert words in str(caught.value)
    answers.by_path = {"/schemas/ids/5": (404, {"error_code": 40403, "message": "none"})}
    assert registry(answers.url).find(5) == Unknown("the registry has no schema of this id")


def test_who_is_away_is_asked_again(answers: Answers) -> None:
    with pytest.raises(RegistryUnavailableError) as caught:
        registry("http://127.0.0.1:9").find(5)
    assert "asking the schema registry for schema 5: http://127.0.0.1:9 did not answer" in str(
        caught.value
    )
    assert "HTTPConnection" not in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "sent"),
    [
        ({}, None),
        ({"IOT_REGISTRY_TOKEN": "t0ken"}, "Bearer t0ken"),
        ({"IOT_REGISTRY_USERNAME": "ü", "IOT_REGISTRY_PASSWORD": "p"}, "Basic w7w6cA=="),
    ],
)
def test_the_login_is_sent_and_never_told(
    answers: Answers, settings: dict[str, str], sent: str | None
) -> None:
    answers.by_path = {"/schemas/ids/5": (403, {"message": "no"})}
    with pytest.raises(PermanentError) as caught:
        registry(answers.url, **settings).find(5)
    assert answers.logins == [sent]
    for secret in ("t0ken", "w7w6cA"):
        assert secret not in str(caught.value)


def test_over_tls_its_certificate_has_to_be_an_authoritys_that_is_trusted(
    answers: Answers, tmp_path: Path
) -> None:
    ours, others = tmp_path / "ours", tmp_path / "others"
    for folder in (ours, others):
        folder.mkdir()
        make_authority(folder)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(make_certificate(ours, "registry"))
    answers.server.socket = context.wrap_socket(answers.server.socket, server_side=True)
    answers.by_path = {"/schemas/ids/5": (200, {"schema": AVRO})}
    url = answers.url.replace("http:", "https:")
    trusted = registry(url, IOT_REGISTRY_CA_LOCATION=str(ours / "ca.pem"))
    assert isinstance(trusted.find(5), WriterSchema)
    for other in ({"IOT_REGISTRY_CA_LOCATION": str(others / "ca.pem")}, {}):
        with pytest.raises(PermanentError, match="IOT_REGISTRY_CA_LOCATION names the authority"):
            registry(url, **other).find(5)
