"""Apicurio, a schema registry with Confluent's API, from Maven: a server of tests, in memory.

Fetched once into the cache of the servers' jars, checked by sha256, started on a free port.
"""

import socket
import subprocess
import tarfile
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import filelock

from iot_pipeline.local.jars import default_cache, sha256_of
from iot_pipeline.local.java import find_java

GROUP, ARTIFACT, VERSION = "io.apicurio", "apicurio-registry-app", "3.0.9"
SHA256 = "2b28181501a20cbf6efcd77f9b7153908fc01f3d3a7c32024c0bd9e1b04c8a43"
_PATH = "apis/ccompat/v7"
_START_SECONDS = 120
# It answers within two seconds on this little, and takes 230 MB.
_JAVA = ("-Xmx192m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto")


def fetched() -> Path:
    """The folder of the unpacked server."""
    cache = default_cache().parent / "apicurio"
    place = cache / VERSION
    cache.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(cache / ".lock", timeout=600):
        if place.is_dir():
            return place
        from jgo.maven import MavenContext

        with tempfile.TemporaryDirectory(dir=cache) as folder:
            context = MavenContext(repo_cache=Path(folder), timeout=120)
            component = context.project(GROUP, ARTIFACT).at_version(VERSION)
            archive = Path(component.artifact("all", "tar.gz").resolve())
            assert sha256_of(archive) == SHA256, f"{archive.name} is not what was locked"
            unpacked = Path(folder, "unpacked")
            with tarfile.open(archive) as packed:
                packed.extractall(unpacked, filter="data")
            unpacked.rename(place)
    return place


def _free_port() -> int:
    with socket.socket() as claimed:
        claimed.bind(("127.0.0.1", 0))
        port: int = claimed.getsockname()[1]
        return port


@dataclass
class Apicurio:
    """A registry that is started and stopped on one port; what it holds is in memory."""

    folder: Path
    properties: Mapping[str, str] = field(default_factory=dict)
    port: int = field(default_factory=_free_port)
    _process: "subprocess.Popen[bytes] | None" = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/{_PATH}"

    def start(self) -> None:
        (jar,) = fetched().glob("*-runner.jar")
        options = {"quarkus.http.host": "127.0.0.1", "quarkus.http.port": str(self.port)}
        options |= self.properties
        command = [str(find_java("").command), *_JAVA]
        command += [f"-D{name}={value}" for name, value in options.items()]
        log = self.folder / "apicurio.log"
        with log.open("ab") as out:
            self._process = subprocess.Popen(
                [*command, "-jar", str(jar)], stdout=out, stderr=subprocess.STDOUT, cwd=self.folder
            )
        until = time.monotonic() + _START_SECONDS
        while not self._answers():
            assert self._process.poll() is None, log.read_text()[-2_000:]
            assert time.monotonic() < until, log.read_text()[-2_000:]
            time.sleep(0.1)

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/subjects", timeout=5):
                return True
        except urllib.error.HTTPError as exc:
            return exc.code == 401
        except OSError:
            return False
