"""The broker's jars: exactly the files that the committed lock names.

In: `infra/kafka/jars.lock` (coordinates, sizes, SHA-256). Out: a class path of verified files in `.cache/jars`.
Invariant: a file under its final name has the locked digest; whatever else arrives is thrown away.

jgo's resolver is asked for one exact artifact at a time: its own cache accepts a file that is there, whatever it
holds, and a wrong checksum is only a warning to it.
"""

from __future__ import annotations

import hashlib
import shutil
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import msgspec

from reference_system.errors import SetupError
from reference_system.file_lock import locked
from reference_system.paths import PROJECT_ROOT

JAR_LOCK = PROJECT_ROOT / "infra" / "kafka" / "jars.lock"
JAR_CACHE = PROJECT_ROOT / ".cache" / "jars"

KAFKA_PROJECT = "org.apache.kafka:kafka_2.13"
# Kafka logs through slf4j 1.7; this binding leads it to the log4j that Kafka brings, in the same version.
LOG_BINDING_PROJECT = "org.apache.logging.log4j:log4j-slf4j-impl"
LOG_LIBRARY = "log4j-core"

# The files are small and most of the time is waiting for the first byte.
_DOWNLOADS_AT_ONCE = 6
_ATTEMPTS = 2
_READ_SECONDS = 30

_FileName = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*\.jar$")]
_Sha256 = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}$")]
_Coordinate = Annotated[str, msgspec.Meta(pattern=r"^[^:\s]+:[^:\s]+:[^:\s]+$")]

DownloadProgress = Callable[[str, int, int], None]
"""Called after each jar: its file name, bytes done, bytes in all. Calls never overlap."""


class LockedJar(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One file of the class path. `coordinate` is `group:artifact:version`."""

    coordinate: _Coordinate
    file: _FileName
    size: int
    sha256: _Sha256


class JarLock(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The lock: which Kafka, and every jar it runs on."""

    kafka: str
    jar: list[LockedJar]


def read_lock(path: Path = JAR_LOCK) -> JarLock:
    """The committed lock.

    Raises:
        SetupError: if it is missing or is not a lock.
    """
    try:
        return msgspec.toml.decode(path.read_bytes(), type=JarLock)
    except (OSError, ValueError) as error:
        raise SetupError(
            f"the jar lock {path} cannot be read: {error}", next_command=f"git checkout {path}"
        ) from error


def class_path(lock: JarLock, cache: Path = JAR_CACHE) -> list[Path]:
    """Where the locked jars lie once they are resolved, in the lock's order."""
    return [cache / jar.file for jar in lock.jar]


def resolve_jars(
    progress: DownloadProgress | None = None,
    *,
    lock_path: Path = JAR_LOCK,
    cache: Path = JAR_CACHE,
    repositories: Mapping[str, str] | None = None,
) -> list[Path]:
    """Bring every locked jar into `cache` and return the class path.

    Costs one pass over the files when all are there and good. A file that differs from the lock is fetched again.

    Args:
        progress: told about each jar that is fetched.
        lock_path: the lock to follow.
        cache: where the jars live; shared by all state directories.
        repositories: Maven repositories (name to address); jgo's configured ones when not given.

    Raises:
        SetupError: if a jar cannot be downloaded, or what arrives differs from the lock twice.
    """
    lock = read_lock(lock_path)
    if wrong_jars(lock, cache):
        with _incoming(cache) as incoming:
            # Another process may have brought them while this one waited for its turn.
            _fetch_all(wrong_jars(lock, cache), cache, incoming, repositories, progress)
    return class_path(lock, cache)


def wrong_jars(lock: JarLock, cache: Path = JAR_CACHE) -> list[LockedJar]:
    """The jars that are missing from `cache` or differ from the lock."""

    def is_good(jar: LockedJar) -> bool:
        path = cache / jar.file
        return path.is_file() and path.stat().st_size == jar.size and file_sha256(path) == jar.sha256

    with ThreadPoolExecutor() as pool:  # hashing releases the interpreter
        return [jar for jar, good in zip(lock.jar, pool.map(is_good, lock.jar), strict=True) if not good]


def file_sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def make_lock(kafka: str, *, cache: Path = JAR_CACHE, repositories: Mapping[str, str] | None = None) -> JarLock:
    """Resolve Kafka's dependencies anew, download every jar and lock what arrived (for maintainers).

    Raises:
        SetupError: if the version does not exist or a jar cannot be downloaded.
    """
    with _incoming(cache) as incoming:
        jars = []
        for coordinate in _closure(kafka, incoming, repositories):
            path = _download(coordinate, incoming, repositories)
            jars.append(
                LockedJar(
                    coordinate=coordinate,
                    file=path.name,
                    size=path.stat().st_size,
                    sha256=file_sha256(path),
                )
            )
            path.replace(cache / path.name)
    return JarLock(kafka=kafka, jar=sorted(jars, key=lambda jar: jar.file))


def render_lock(lock: JarLock) -> str:
    """The lock as the text of its file."""
    tables = [
        f'[[jar]]\ncoordinate = "{jar.coordinate}"\nfile = "{jar.file}"\nsize = {jar.size}\nsha256 = "{jar.sha256}"\n'
        for jar in lock.jar
    ]
    return "\n".join(
        [
            "# Every jar that the broker runs on. Made by `workbook kafka lock`; do not edit.",
            f'kafka = "{lock.kafka}"\n',
            *tables,
        ]
    )


def _fetch_all(
    jars: Sequence[LockedJar],
    cache: Path,
    incoming: Path,
    repositories: Mapping[str, str] | None,
    progress: DownloadProgress | None,
) -> None:
    total = sum(jar.size for jar in jars)
    done = 0
    one_at_a_time = threading.Lock()

    def fetch(jar: LockedJar) -> None:
        nonlocal done
        _fetch_verified(jar, incoming, repositories).replace(cache / jar.file)
        with one_at_a_time:
            done += jar.size
            if progress is not None:
                progress(jar.file, done, total)

    pool = ThreadPoolExecutor(_DOWNLOADS_AT_ONCE)
    try:
        for _ in pool.map(fetch, jars):
            pass
    finally:
        # After a failure the rest is not worth waiting for.
        pool.shutdown(cancel_futures=True)


def _fetch_verified(jar: LockedJar, incoming: Path, repositories: Mapping[str, str] | None) -> Path:
    """Download one jar; a damaged answer gets a second chance."""
    found = ""
    for _ in range(_ATTEMPTS):
        path = _download(jar.coordinate, incoming, repositories)
        found = file_sha256(path)
        if found == jar.sha256:
            return path
        path.unlink()
    raise SetupError(
        f"{jar.file} does not match the lock: expected sha256 {jar.sha256}, found {found}",
        next_command="make up",
    )


def _download(coordinate: str, incoming: Path, repositories: Mapping[str, str] | None) -> Path:
    """One exact jar from a Maven repository into `incoming`, not yet verified."""
    from jgo.maven import MavenContext

    group, artifact, version = coordinate.split(":")
    context = MavenContext(repo_cache=incoming, remote_repos=_repositories(repositories), timeout=_READ_SECONDS)
    try:
        return context.project(group, artifact).at_version(version).artifact().resolve()
    except (RuntimeError, OSError) as error:  # requests' errors are OSErrors
        raise SetupError(f"{coordinate} could not be downloaded: {error}", next_command="make up") from error


def _closure(kafka: str, incoming: Path, repositories: Mapping[str, str] | None) -> list[str]:
    """Coordinates of everything that this Kafka and its log binding need at run time."""
    from jgo.maven import MavenContext

    context = MavenContext(repo_cache=incoming, remote_repos=_repositories(repositories), timeout=_READ_SECONDS)

    try:
        root = context.create_dependency(f"{KAFKA_PROJECT}:{kafka}")
        inputs, transitive = context.resolver.resolve([root])
    except (RuntimeError, OSError) as error:
        raise SetupError(f"Kafka {kafka} could not be resolved: {error}") from error
    needed = [*inputs, *(found for found in transitive if found.scope in ("compile", "runtime"))]
    log_version = next(found.version for found in needed if found.artifactId == LOG_LIBRARY)
    # The binding is added by hand. As a second root its parent's version table would apply to everything, and that
    # table holds another release of Kafka's own client.
    binding = f"{LOG_BINDING_PROJECT}:{log_version}"
    return [*(f"{found.groupId}:{found.artifactId}:{found.version}" for found in needed), binding]


def _repositories(given: Mapping[str, str] | None) -> dict[str, str]:
    """The given repositories; else Maven Central and those of the reader's jgo configuration."""
    if given is not None:
        return dict(given)
    from jgo.config import GlobalSettings
    from jgo.constants import MAVEN_CENTRAL_URL

    return {"central": MAVEN_CENTRAL_URL, **GlobalSettings.load().repositories}


@contextmanager
def _incoming(cache: Path) -> Iterator[Path]:
    """A folder for unverified files beside the verified ones, for one process at a time; emptied before and after."""
    cache.mkdir(parents=True, exist_ok=True)
    incoming = cache / ".incoming"
    with locked(cache / ".turn"):
        shutil.rmtree(incoming, ignore_errors=True)
        try:
            yield incoming
        finally:
            shutil.rmtree(incoming, ignore_errors=True)
