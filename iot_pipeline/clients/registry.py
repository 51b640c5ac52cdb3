"""A schema registry by Confluent's REST API: which schema has an id, the newest of a subject.

https://docs.confluent.io/platform/current/schema-registry/develop/api.html
Answers are not kept here (`core.reading.formats.SchemaBook` keeps them).
"""

import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import urllib3

from iot_pipeline.core.reading.formats import Unknown, WriterSchema
from iot_pipeline.errors import (
    ConfigurationError,
    PermanentError,
    PipelineError,
    RegistryUnavailableError,
)
from iot_pipeline.proto_files import compile_texts
from iot_pipeline.settings import Settings
from iot_pipeline.tls import tls_context

_TIMEOUT_SECONDS = 10.0
_LARGEST_BYTES = 8 * 1024 * 1024
_MOST_REFERENCES = 200
# Its words for "there is none"; a 404 without one of them is another server's.
_NO_SCHEMA, _NO_SUBJECT, _NO_VERSION = 40403, 40401, 40402
_BUSY = (408, 425, 429)
_MEDIA = "application/vnd.schemaregistry.v1+json"


class SchemaRegistry:
    """A `SchemaSource`. Nothing is contacted before it is asked.

    Raises:
        ConfigurationError: none is set; or a certificate or a key cannot be used.
    """

    def __init__(self, settings: Settings) -> None:
        self._url = settings.registry_url.rstrip("/")
        if not self._url:
            raise ConfigurationError("no schema registry is set: set IOT_REGISTRY_URL")
        headers = {"Accept": f"{_MEDIA}, application/json"}
        if token := settings.registry_token.get_secret_value():
            headers["Authorization"] = f"Bearer {token}"
        elif settings.registry_username:
            login = f"{settings.registry_username}:{settings.registry_password.get_secret_value()}"
            # By its parts, so that every letter is sent as UTF-8.
            headers |= urllib3.make_headers(basic_auth=login.encode().decode("latin-1"))
        self._headers, self._has_login = headers, len(headers) > 1
        self._pool = urllib3.PoolManager(ssl_context=tls_context(settings.registry_tls))

    def find(self, schema_id: int) -> WriterSchema | Unknown:
        """The schema with an id, and all that it refers to.

        Raises:
            RegistryUnavailableError: it does not answer, or not now.
            PermanentError: it refuses us, or is no registry.
        """
        doing = f"asking the schema registry for schema {schema_id}"
        told = self._ask(f"/schemas/ids/{schema_id}", doing, _NO_SCHEMA)
        if told is None:
            return Unknown("the registry has no schema of this id")
        return self._schema(told, doing)

    def newest(self, subject: str) -> tuple[int, WriterSchema | Unknown] | None:
        """The newest schema of a subject and its id; None: there is no such subject."""
        doing = f"asking the schema registry for {subject}"
        path = f"/subjects/{quote(subject, safe='')}/versions/latest"
        told = self._ask(path, doing, _NO_SUBJECT, _NO_VERSION)
        return None if told is None else (int(told["id"]), self._schema(told, doing))

    def register(self, subject: str, kind: str, text: str) -> int:
        """Add a schema to a subject, unless it has it; its id."""
        path = f"/subjects/{quote(subject, safe='')}/versions"
        body = {"schema": text} if kind == "AVRO" else {"schema": text, "schemaType": kind}
        told = self._ask(path, f"registering a schema of {subject}", body=body)
        return int(told["id"])

    def _schema(self, told: Any, doing: str) -> WriterSchema | Unknown:
        kind, text = told.get("schemaType") or "AVRO", told["schema"]
        references = dict(self._references(told, doing))
        if kind != "PROTOBUF":
            texts = [one.encode() for one in references.values()]
            return WriterSchema(kind, text.encode(), tuple(texts))
        own = "the_schema.proto"
        try:
            return WriterSchema(kind, compile_texts({**references, own: text}, own))
        except ConfigurationError as exc:
            if "pip install" in str(exc):
                raise
            return Unknown(f"its schema cannot be read ({exc})")

    def _references(self, told: Any, doing: str) -> Iterator[tuple[str, str]]:
        """(Name, text) of each schema that one names, those that are named by others first."""
        seen: set[str] = set()

        def walk(one: Any) -> Iterator[tuple[str, str]]:
            for reference in one.get("references") or ():
                name = reference["name"]
                if name in seen:
                    continue
                seen.add(name)
                if len(seen) > _MOST_REFERENCES:
                    raise PermanentError(f"{doing}: it refers to more than {_MOST_REFERENCES}")
                subject, version = quote(reference["subject"], safe=""), reference["version"]
                other = self._ask(f"/subjects/{subject}/versions/{version}", doing)
                yield from walk(other)
                yield name, other["schema"]

        yield from walk(told)

    def _ask(self, path: str, doing: str, *none: int, body: Any = None) -> Any:
        headers = self._headers
        sent = None
        if body is not None:
            sent, headers = json.dumps(body).encode(), {**headers, "Content-Type": _MEDIA}
        try:
            # No redirect: the login would go where it leads.
            answer = self._pool.request(
                "GET" if body is None else "POST",
                self._url + path,
                body=sent,
                headers=headers,
                timeout=_TIMEOUT_SECONDS,
                retries=False,
                redirect=False,
                preload_content=False,
            )
            try:
                content = answer.read(_LARGEST_BYTES + 1)
            finally:
                answer.release_conn()
        except urllib3.exceptions.HTTPError as exc:
            raise self._explained(exc, doing) from exc
        told = _decoded(content)
        code = told.get("error_code") if isinstance(told, dict) else None
        if answer.status == 404 and code in none:
            return None
        if answer.status != 200 or not isinstance(told, dict):
            raise self._refused(answer.status, told, doing)
        return told

    def _explained(self, exc: Exception, doing: str) -> PipelineError:
        if isinstance(exc, urllib3.exceptions.SSLError):
            return PermanentError(
                f"{doing}: no TLS with {self._url}: {exc}. IOT_REGISTRY_CA_LOCATION names the "
                "authority to trust, and a registry without TLS has an http:// address"
            )
        return RegistryUnavailableError(
            f"{doing}: {self._url} did not answer ({_reason(exc)}). Does it run, and is "
            "IOT_REGISTRY_URL its address?"
        )

    def _refused(self, status: int, told: Any, doing: str) -> PipelineError:
        said = told.get("message") if isinstance(told, dict) else None
        words = f": {str(said)[:200]}" if said else ""
        if status >= 500 or status in _BUSY:
            return RegistryUnavailableError(f"{doing}: {self._url} answered {status}{words}")
        if status in (401, 403):
            verb = "refuses this login" if self._has_login else "asks for a login"
            return PermanentError(
                f"{doing}: {self._url} {verb} ({status}): IOT_REGISTRY_USERNAME and "
                "IOT_REGISTRY_PASSWORD, or IOT_REGISTRY_TOKEN"
            )
        return PermanentError(
            f"{doing}: {self._url} answered {status}{words}, not as a schema registry does. Is "
            "IOT_REGISTRY_URL the address of its Confluent-compatible API, with its path?"
        )


def _decoded(content: bytes) -> Any:
    try:
        return json.loads(content) if len(content) <= _LARGEST_BYTES else None
    except ValueError:
        return None


def _reason(exc: Exception) -> str:
    """The network's own words, without the objects of the library."""
    text = str(exc)
    return text.rpartition("]")[2].strip(" :)'\"") or text
