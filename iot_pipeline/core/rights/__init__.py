"""What our users must be allowed to do on Kafka and Cassandra, and what a person may ask."""
