"""IoT readings from Kafka into Cassandra, every offset accounted for, orchestrated by Dagster."""
