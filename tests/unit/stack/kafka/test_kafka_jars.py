"""Jars against their lock, fetched by the real resolver from a Maven repository on loopback."""

from __future__ import annotations

import hashlib
import threading
from collections import defaultdict
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import pytest

from reference_system.errors import SetupError
from reference_system.stack.kafka.jars import (
    JAR_LOCK,
    JarLock,
    LockedJar,
    make_lock,
    read_lock,
    render_lock,
    resolve_jars,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

GOOD = b"the jar that was locked"
EVIL = b"another jar"
BROKER_JAR = "org/example/broker/1.0/broker-1.0.jar"
CLIENT_JAR = "org/example/client/2.0/client-2.0.jar"


@dataclass
class Repository:
    """What a Maven repository answers, path by path: the answers in turn, the last one for ever."""

    url: str
    answers: dict[str, list[bytes]] = field(default_factory=dict)
    asked: defaultdict[str, int] = field(default_factory=lambda: defaultdict(int))

    @property
    def as_given(self) -> dict[str, str]:
        return {"loopback": self.url}

    def jar(self, coordinate: str, content: bytes) -> None:
        group, artifact, version = coordinate.split(":")
        folder = f"{group.replace('.', '/')}/{artifact}/{version}"
        self.answers[f"{folder}/{artifact}-{version}.jar"] = [content]

    def pom(self, coordinate: str, body: str) -> None:
        group, artifact, version = coordinate.split(":")
        folder = f"{group.replace('.', '/')}/{artifact}/{version}"
        text = (
            f"<project><modelVersion>4.0.0</modelVersion><groupId>{group}</groupId>"
            f"<artifactId>{artifact}</artifactId><version>{version}</version>{body}</project>"
        )
        self.answers[f"{folder}/{artifact}-{version}.pom"] = [text.encode()]


@pytest.fixture
def repository() -> Iterator[Repository]:
    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = self.path.lstrip("/")
            known = store.answers.get(path)
            content = known[min(store.asked[path], len(known) - 1)] if known else b""
            store.asked[path] += 1
            self.send_response(200 if known else 404)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            """Tests are quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    store = Repository(url=f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield store
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def lock_path(tmp_path: Path) -> Path:
    path = tmp_path / "jars.lock"
    jars = [locked("org.example:broker:1.0", GOOD), locked("org.example:client:2.0", GOOD * 2)]
    path.write_text(render_lock(JarLock(kafka="1.0", jar=jars)))
    return path


def locked(coordinate: str, content: bytes) -> LockedJar:
    _, artifact, version = coordinate.split(":")
    return LockedJar(
        coordinate=coordinate,
        file=f"{artifact}-{version}.jar",
        size=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
    )


def test_missing_jars_are_fetched_in_the_order_of_the_lock(repository: Repository, lock_path: Path, tmp_path: Path):
    repository.answers |= {BROKER_JAR: [GOOD], CLIENT_JAR: [GOOD * 2]}
    seen: list[tuple[int, int]] = []

    found = resolve_jars(
        lambda _, done, total: seen.append((done, total)),
        lock_path=lock_path,
        cache=tmp_path / "jars",
        repositories=repository.as_given,
    )

    assert [path.name for path in found] == ["broker-1.0.jar", "client-2.0.jar"]
    assert [path.read_bytes() for path in found] == [GOOD, GOOD * 2]
    assert seen[-1] == (3 * len(GOOD), 3 * len(GOOD))


def test_nothing_is_asked_when_every_jar_is_there(repository: Repository, lock_path: Path, tmp_path: Path):
    repository.answers |= {BROKER_JAR: [GOOD], CLIENT_JAR: [GOOD * 2]}
    cache = tmp_path / "jars"
    first = resolve_jars(lock_path=lock_path, cache=cache, repositories=repository.as_given)
    repository.asked.clear()

    assert resolve_jars(lock_path=lock_path, cache=cache, repositories=repository.as_given) == first
    assert repository.asked == {}


def test_a_jar_with_another_digest_is_refused_and_not_kept(repository: Repository, lock_path: Path, tmp_path: Path):
    repository.answers |= {BROKER_JAR: [EVIL], CLIENT_JAR: [GOOD * 2]}
    cache = tmp_path / "jars"

    with pytest.raises(SetupError) as caught:
        resolve_jars(lock_path=lock_path, cache=cache, repositories=repository.as_given)

    assert "broker-1.0.jar" in str(caught.value)
    assert hashlib.sha256(GOOD).hexdigest() in str(caught.value)
    assert hashlib.sha256(EVIL).hexdigest() in str(caught.value)
    assert not (cache / "broker-1.0.jar").exists()
    assert not (cache / ".incoming").exists()
    assert repository.asked[BROKER_JAR] == 2


def test_a_download_that_was_damaged_once_gets_a_second_chance(
    repository: Repository, lock_path: Path, tmp_path: Path
):
    repository.answers |= {BROKER_JAR: [EVIL, GOOD], CLIENT_JAR: [GOOD * 2]}

    broker, _ = resolve_jars(lock_path=lock_path, cache=tmp_path / "jars", repositories=repository.as_given)

    assert broker.read_bytes() == GOOD


@pytest.mark.parametrize("damage", [b"", GOOD[:-1], GOOD[:-1] + b"?"], ids=["empty", "cut", "one byte"])
def test_a_cached_jar_that_was_damaged_is_fetched_again_alone(
    repository: Repository, lock_path: Path, tmp_path: Path, damage: bytes
):
    repository.answers |= {BROKER_JAR: [GOOD], CLIENT_JAR: [GOOD * 2]}
    broker, _ = resolve_jars(lock_path=lock_path, cache=tmp_path / "jars", repositories=repository.as_given)
    broker.write_bytes(damage)
    repository.asked.clear()

    resolve_jars(lock_path=lock_path, cache=tmp_path / "jars", repositories=repository.as_given)

    assert broker.read_bytes() == GOOD
    assert repository.asked[CLIENT_JAR] == 0


def test_what_an_interrupted_download_left_does_not_count(repository: Repository, lock_path: Path, tmp_path: Path):
    repository.answers |= {BROKER_JAR: [GOOD], CLIENT_JAR: [GOOD * 2]}
    cache = tmp_path / "jars"
    half_done = cache / ".incoming" / BROKER_JAR
    half_done.parent.mkdir(parents=True)
    half_done.write_bytes(GOOD[:5])

    broker, _ = resolve_jars(lock_path=lock_path, cache=cache, repositories=repository.as_given)

    assert broker.read_bytes() == GOOD
    assert not (cache / ".incoming").exists()


def test_a_jar_that_nobody_has_is_one_clear_error(repository: Repository, lock_path: Path, tmp_path: Path):
    with pytest.raises(SetupError, match=r"org\.example:broker:1\.0 could not be downloaded"):
        resolve_jars(lock_path=lock_path, cache=tmp_path / "jars", repositories=repository.as_given)


def test_a_repository_that_cannot_be_reached_is_one_clear_error(lock_path: Path, tmp_path: Path):
    nobody = {"loopback": "http://127.0.0.1:1"}

    with pytest.raises(SetupError, match="could not be downloaded"):
        resolve_jars(lock_path=lock_path, cache=tmp_path / "jars", repositories=nobody)


@pytest.mark.parametrize(
    "text",
    [
        "kafka = ",
        'kafka = "4.4.0"',
        'kafka = "1"\n[[jar]]\ncoordinate = "a:b:1"\nfile = "../../evil.jar"\nsize = 1\nsha256 = "' + "0" * 64 + '"',
        'kafka = "1"\n[[jar]]\ncoordinate = "a:b:1"\nfile = "b-1.jar"\nsize = 1\nsha256 = "short"',
    ],
    ids=["no TOML", "no jars", "file outside the cache", "no digest"],
)
def test_a_corrupt_lock_is_one_clear_error(tmp_path: Path, text: str):
    path = tmp_path / "jars.lock"
    path.write_text(text)

    with pytest.raises(SetupError, match="jar lock") as caught:
        resolve_jars(lock_path=path, cache=tmp_path / "jars")

    assert caught.value.next_command == f"git checkout {path}"


def test_the_committed_lock_is_what_the_command_writes():
    lock = read_lock()

    assert render_lock(lock) == JAR_LOCK.read_text(encoding="utf-8")
    assert len({jar.file for jar in lock.jar}) == len(lock.jar)
    assert f"kafka_2.13-{lock.kafka}.jar" in {jar.file for jar in lock.jar}


def test_a_new_lock_adds_the_log_binding_without_its_version_table(repository: Repository, tmp_path: Path):
    needs = (
        "<dependencies>"
        "<dependency><groupId>org.apache.kafka</groupId><artifactId>kafka-clients</artifactId>"
        "<version>9.9</version></dependency>"
        "<dependency><groupId>org.apache.logging.log4j</groupId><artifactId>log4j-core</artifactId>"
        "<version>2.5</version><scope>runtime</scope></dependency>"
        "<dependency><groupId>org.example</groupId><artifactId>only-for-tests</artifactId>"
        "<version>1</version><scope>test</scope></dependency>"
        "</dependencies>"
    )
    repository.pom("org.apache.kafka:kafka_2.13:9.9", needs)
    repository.pom("org.apache.kafka:kafka-clients:9.9", "")
    repository.pom("org.apache.logging.log4j:log4j-core:2.5", "")
    repository.pom(
        "org.apache.logging.log4j:log4j-slf4j-impl:2.5",
        "<dependencyManagement>"
        + needs.replace("9.9", "1.1").replace("<scope>test</scope>", "")
        + "</dependencyManagement>",
    )
    for coordinate in (
        "org.apache.kafka:kafka_2.13:9.9",
        "org.apache.kafka:kafka-clients:9.9",
        "org.apache.logging.log4j:log4j-core:2.5",
        "org.apache.logging.log4j:log4j-slf4j-impl:2.5",
    ):
        repository.jar(coordinate, coordinate.encode())

    lock = make_lock("9.9", cache=tmp_path / "jars", repositories=repository.as_given)

    assert [jar.file for jar in lock.jar] == [
        "kafka-clients-9.9.jar",
        "kafka_2.13-9.9.jar",
        "log4j-core-2.5.jar",
        "log4j-slf4j-impl-2.5.jar",
    ]
    path = tmp_path / "jars.lock"
    path.write_text(render_lock(lock))
    assert read_lock(path) == lock
