"""Records become a micro-batch: winners, grouped by Cassandra partition."""
