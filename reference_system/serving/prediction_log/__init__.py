"""The prediction log: answers on their way to Kafka, spooled on disk while it is away."""
