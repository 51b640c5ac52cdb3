"""Kafka and Cassandra on this machine, as docker-compose.yml describes them: start, wait, stop."""
