"""The Kafka broker: jars, process and topics."""
