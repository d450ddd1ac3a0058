"""What the broker is started with, and which storage is refused."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from reference_system.errors import StateError
from reference_system.paths import StatePaths
from reference_system.stack.kafka import broker as kafka_broker
from reference_system.stack.kafka.broker import broker_command, java_version, prepare_broker
from reference_system.stack.kafka.jars import read_lock

if TYPE_CHECKING:
    from pathlib import Path

    from reference_system.settings import Settings

GOOD_META = f"#\n#Mon Nov 23 13:00:00 UTC 2026\ncluster.id={kafka_broker.CLUSTER_ID}\nnode.id=1\nversion=1\n"


def rendered(settings: Settings, tmp_path: Path) -> dict[str, str]:
    path = tmp_path / "server.properties"
    kafka_broker._write_properties(settings, tmp_path / "data", path)
    lines = [line for line in path.read_text().splitlines() if line and not line.startswith("#")]
    return dict(line.split("=", 1) for line in lines)


def write_meta(settings: Settings, text: str) -> Path:
    path = StatePaths(settings.state_dir).kafka / "data" / "meta.properties"
    path.parent.mkdir(parents=True)
    path.write_text(text)
    return path


def test_every_listener_is_on_loopback_at_the_ports_of_the_settings(settings: Settings, tmp_path: Path):
    found = rendered(settings, tmp_path)

    addresses = re.findall(r"//([^,]+)", found["listeners"] + "," + found["advertised.listeners"])
    assert set(addresses) == {
        f"127.0.0.1:{settings.port('kafka')}",
        f"127.0.0.1:{settings.port('kafka_controller')}",
    }
    assert found["controller.quorum.voters"] == f"1@127.0.0.1:{settings.port('kafka_controller')}"


def test_nothing_asks_for_a_second_replica(settings: Settings, tmp_path: Path):
    found = rendered(settings, tmp_path)

    factors = {name: value for name, value in found.items() if re.search(r"replication\.factor$|min\.isr$", name)}
    assert set(factors.values()) == {"1"}
    assert {"offsets.topic.replication.factor", "transaction.state.log.replication.factor"} <= set(factors)
    assert "share.coordinator.state.topic.replication.factor" in factors


def test_no_setting_is_written_twice(settings: Settings, tmp_path: Path):
    path = tmp_path / "server.properties"
    kafka_broker._write_properties(settings, tmp_path / "data", path)

    names = re.findall(r"^([\w.]+)=", path.read_text(), flags=re.MULTILINE)
    assert len(names) == len(set(names))
    assert "${" not in path.read_text()


def test_the_command_carries_the_heap_of_the_settings_and_the_whole_class_path(settings: Settings):
    command, _ = broker_command(settings.model_copy(update={"kafka_heap_mb": 512}))

    assert "-Xmx512m" in command
    jars = command[command.index("-cp") + 1].split(":")
    assert len(jars) == len(read_lock().jar)
    assert command[-2:] == ["kafka.Kafka", str(StatePaths(settings.state_dir).kafka / "server.properties")]


def test_options_for_another_java_do_not_reach_the_broker(settings: Settings, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("JAVA_TOOL_OPTIONS", "-Xmx64m")
    monkeypatch.setenv("CLASSPATH", "/somewhere/else.jar")

    _, environment = broker_command(settings)

    assert {"JAVA_TOOL_OPTIONS", "CLASSPATH"}.isdisjoint(environment)


def test_java_tells_the_version_that_kafka_supports():
    assert java_version().startswith("21.")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "version=, expected 1"),
        ("\x00\x00\x00", "version=, expected 1"),
        (GOOD_META.replace("node.id=1", "node.id=2"), "node.id=2, expected 1"),
        (GOOD_META.replace(kafka_broker.CLUSTER_ID, "another"), "cluster.id=another"),
        (GOOD_META.replace("version=1", "version=0"), "version=0, expected 1"),
    ],
    ids=["empty", "zeros", "another node", "another cluster", "old version"],
)
def test_damaged_storage_is_refused_with_the_way_out(settings: Settings, text: str, said: str):
    path = write_meta(settings, text)

    with pytest.raises(StateError, match=said) as caught:
        prepare_broker(settings)

    assert caught.value.next_command == "make clean"
    assert path.read_text() == text


def test_data_without_its_description_is_refused_and_not_formatted_over(settings: Settings):
    segment = StatePaths(settings.state_dir).kafka / "data" / "transactions-0" / "00000000000000000000.log"
    segment.parent.mkdir(parents=True)
    segment.write_bytes(b"events")

    with pytest.raises(StateError, match=r"meta\.properties"):
        prepare_broker(settings)

    assert segment.read_bytes() == b"events"


def test_good_storage_passes(settings: Settings):
    kafka_broker._check_storage(write_meta(settings, GOOD_META).parent)
