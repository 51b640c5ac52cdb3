"""Protobuf's schemas as text become descriptors: by protoc, in a process of its own."""

import subprocess
import sys
import tempfile
from collections.abc import Mapping
from functools import lru_cache
from importlib import resources
from pathlib import Path

from iot_pipeline.errors import ConfigurationError
from iot_pipeline.extras import require

_SECONDS = 60


@lru_cache(maxsize=16)
def compile_file(place: Path, _modified: int) -> bytes:
    """The serialized FileDescriptorSet of a .proto file, its own file last.

    Kept, for settings are read many times and protoc takes a seventh of a second: what changed
    since `_modified` is another file.

    Raises:
        ConfigurationError: grpcio-tools is not installed; or protoc's first objection.
    """
    return _compile(place.parent, place.name)


def compile_texts(files: Mapping[str, str], main: str) -> bytes:
    """The same of texts, by the names that they import each other by."""
    with tempfile.TemporaryDirectory(prefix="iot_proto_") as folder:
        place = Path(folder)
        for name, text in files.items():
            path = (place / name).resolve()
            if not path.is_relative_to(place.resolve()):
                raise ConfigurationError(f"{name}: expected an import inside of the folder")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, "utf-8")
        return _compile(place, main)


def _compile(folder: Path, name: str) -> bytes:
    require("grpc_tools")
    shipped = str(resources.files("grpc_tools") / "_proto")
    with tempfile.NamedTemporaryFile(prefix="iot_proto_") as made:
        command = [sys.executable, "-m", "grpc_tools.protoc", f"-I{folder}", f"-I{shipped}"]
        command += ["--include_imports", f"--descriptor_set_out={made.name}", name]
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_SECONDS, check=False, cwd=folder
        )
        if done.returncode:
            # Its libraries have their own to say, too.
            said = done.stderr.replace(f"{folder}/", "").splitlines()
            objections = [line for line in said if ".proto:" in line]
            raise ConfigurationError(next(iter(objections), "protoc cannot read it"))
        return made.read()
