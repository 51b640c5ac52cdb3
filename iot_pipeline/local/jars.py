"""The jars of a server, exactly those of its lock file: fetched by jgo, checked by sha256.

Belongs here: from a lock to a classpath. Does not belong here: which jars a version needs
(`local.jar_locks` writes that down), what Java does with them (`local.launch`).
"""

import hashlib
import shutil
import tempfile
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import filelock
import msgspec
import platformdirs

from iot_pipeline.errors import ServiceError

# A few connections are fair to a repository; the jars are many and mostly small.
DOWNLOADS_AT_ONCE = 6
REQUEST_TIMEOUT_SECONDS = 30
LOCK_TIMEOUT_SECONDS = 900
STAGING_PREFIX = ".fetch-"

Advance = Callable[[int], None]
"""Called with the size of each jar that was fetched, in bytes, from one thread at a time."""


class LockedJar(
    msgspec.Struct,
    frozen=True,
    rename={"group": "groupId", "artifact": "artifactId", "size_bytes": "size"},
):
    """One jar by Maven coordinates, and the bytes it must have; a line of a lock file."""

    group: str
    artifact: str
    version: str
    classifier: str
    sha256: str
    size_bytes: int

    @property
    def file_name(self) -> str:
        suffix = f"-{self.classifier}" if self.classifier else ""
        return f"{self.artifact}-{self.version}{suffix}.jar"

    def path_in(self, cache: Path) -> Path:
        return cache.joinpath(*self.group.split("."), self.artifact, self.version, self.file_name)


Fetch = Callable[[LockedJar, Path], Path]


class JarLock(msgspec.Struct, frozen=True):
    """A lock file: all jars of one image, in classpath order."""

    image: str
    jars: tuple[LockedJar, ...]


def read_lock(path: Path, image: str) -> JarLock:
    """Read a lock file, which must be for `image`, tag included.

    Raises:
        ServiceError: there is no such lock, or it is another version's. Jars that are
            not in a lock are never run.
    """
    try:
        lock = msgspec.json.decode(path.read_bytes(), type=JarLock)
    except FileNotFoundError:
        raise ServiceError(
            f"{image}: no jars are locked for it, {path} does not exist. `make lock` writes it"
        ) from None
    except msgspec.DecodeError as exc:
        raise ServiceError(f"{path}: not a lock of jars ({exc}). `make lock` writes it") from exc
    if lock.image != image:
        raise ServiceError(
            f"{image}: no jars are locked for it, {path.name} is for {lock.image}. "
            "Put that tag back, or run `make lock`"
        )
    return lock


def default_cache() -> Path:
    """The user's own cache folder: shared by every checkout of this user."""
    return platformdirs.user_cache_path("iot_pipeline") / "jars"


def missing_jars(lock: JarLock, cache: Path) -> list[LockedJar]:
    """The jars that would have to be fetched; sizes are compared, hashes are not."""
    paths = [(jar, jar.path_in(cache)) for jar in lock.jars]
    return [
        jar for jar, path in paths if not path.is_file() or path.stat().st_size != jar.size_bytes
    ]


def ensure_jars(
    lock: JarLock, cache: Path, advance: Advance | None = None, fetch: Fetch | None = None
) -> list[Path]:
    """Bring every jar of a lock into the cache, and check also those that were there.

    Idempotent; several processes at once do no harm (one fetches, the others wait). A jar is
    at its final place only when its hash was right, so an interrupted download leaves nothing
    that a later start would trust.

    Args:
        lock: what there must be.
        cache: a folder laid out as Maven's; created when it is not there.
        advance: told what was fetched, for a progress bar.
        fetch: brings one jar; jgo unless a test wants another.

    Returns:
        The jars' paths in classpath order.

    Raises:
        ServiceError: a jar could not be fetched, or what arrived twice is not what was locked.
    """
    cache.mkdir(parents=True, exist_ok=True)
    report = threading.Lock()

    def ensure(jar: LockedJar) -> Path:
        path, was_fetched = _ensure_jar(jar, cache, fetch or fetch_with_jgo)
        if was_fetched and advance is not None:
            with report:
                advance(jar.size_bytes)
        return path

    guard = filelock.FileLock(cache / ".lock", timeout=LOCK_TIMEOUT_SECONDS)
    try:
        with guard, ThreadPoolExecutor(DOWNLOADS_AT_ONCE, "jars") as pool:
            for leftover in cache.glob(f"{STAGING_PREFIX}*"):
                shutil.rmtree(leftover, ignore_errors=True)
            futures = [pool.submit(ensure, jar) for jar in lock.jars]
            try:
                return [future.result() for future in futures]
            except BaseException:
                # Also on Ctrl-C: do not fetch a hundred more jars before saying so.
                pool.shutdown(wait=False, cancel_futures=True)
                raise
    except filelock.Timeout:
        raise ServiceError(
            f"another process has held the jar cache {cache} for {LOCK_TIMEOUT_SECONDS} s; "
            "let it finish, or stop it"
        ) from None


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fetch_with_jgo(jar: LockedJar, folder: Path) -> Path:
    """Fetch one jar, and nothing else, into a folder; returns where it is, unchecked.

    Raises:
        ServiceError: the repository does not answer, or has no such jar.
    """
    # Here, because it costs every other command a moment and is needed once per machine.
    from jgo.maven import MavenContext

    # Resolves this one file: no pom is read, so nothing but what is locked can come along.
    context = MavenContext(repo_cache=folder, timeout=REQUEST_TIMEOUT_SECONDS)
    component = context.project(jar.group, jar.artifact).at_version(jar.version)
    try:
        return Path(component.artifact(jar.classifier, "jar").resolve())
    except (OSError, RuntimeError) as exc:
        # jgo raises RuntimeError for a jar that no repository has; requests' errors are OSErrors.
        raise ServiceError(
            f"fetching {jar.group}:{jar.artifact}:{jar.version}: {exc}. The jars come from the "
            "Maven repository; is there a network, or a proxy to set?"
        ) from exc


def _ensure_jar(jar: LockedJar, cache: Path, fetch: Fetch) -> tuple[Path, bool]:
    path = jar.path_in(cache)
    if path.is_file():
        if sha256_of(path) == jar.sha256:
            return path, False
        path.unlink()
    found: Sequence[str] = ()
    # Twice, because a connection that breaks off leaves a short file without an error.
    for _ in range(2):
        with tempfile.TemporaryDirectory(prefix=STAGING_PREFIX, dir=cache) as staging:
            fetched = fetch(jar, Path(staging))
            digest = sha256_of(fetched)
            if digest == jar.sha256:
                path.parent.mkdir(parents=True, exist_ok=True)
                fetched.replace(path)
                return path, True
            found = (*found, f"{digest} ({fetched.stat().st_size} bytes)")
    raise ServiceError(
        f"{jar.file_name}: expected sha256 {jar.sha256} ({jar.size_bytes} bytes), fetched "
        f"{' and then '.join(found)}. It was deleted and nothing was started: something between "
        "here and the repository changes files, or the lock is wrong (`make lock`)"
    )
