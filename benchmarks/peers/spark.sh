#!/usr/bin/env bash
# Spark with its Kafka source and the Cassandra connector; the packages come through spark-submit.
set -euo pipefail
if [ "${1:-}" = --available ]; then command -v spark-submit >/dev/null; exit; fi
scala=2.12
spark=$(spark-submit --version 2>&1 | sed -n 's/.*version \([0-9.]*\).*/\1/p' | head -1)
job=$(mktemp --suffix=.py)
trap 'rm -f "$job"' EXIT
cat >"$job" <<'PYTHON'
import os
import time

from pyspark.sql import SparkSession
from pyspark.sql import functions as f

host, port = os.environ["IOT_CONTACT_POINTS"].split(",")[0], os.environ["IOT_CASSANDRA_PORT"]
spark = (
    SparkSession.builder.config("spark.cassandra.connection.host", host)
    .config("spark.cassandra.connection.port", port)
    .config("spark.sql.session.timeZone", "UTC")
    .getOrCreate()
)
messages = (
    spark.read.format("kafka")
    .option("kafka.bootstrap.servers", os.environ["IOT_BOOTSTRAP_SERVERS"])
    .option("subscribe", os.environ["IOT_TOPIC"])
    .option("startingOffsets", "earliest")
    .load()
)
schema = "device_id string, timestamp double, temperature double, humidity double"
reading = f.from_json(f.col("value").cast("string"), schema)
ms = f.floor(f.round(f.col("timestamp") * 1000000) / 1000)
rows = (
    messages.select(reading.alias("r"))
    .select("r.*")
    .withColumn("timestamp", f.timestamp_millis(ms))
    .withColumn("day", f.to_date("timestamp"))
)
(
    rows.write.format("org.apache.spark.sql.cassandra")
    .mode("append")
    .options(table="sensor_data", keyspace=os.environ["IOT_KEYSPACE"])
    .save()
)
time.sleep(3600)
PYTHON
# Everything is on this machine; Spark would listen on its first other address.
export SPARK_LOCAL_IP=127.0.0.1
spark-submit --master 'local[*]' --conf spark.ui.enabled=false --conf spark.log.level=WARN \
  --packages "org.apache.spark:spark-sql-kafka-0-10_$scala:$spark,com.datastax.spark:spark-cassandra-connector_$scala:3.5.1" \
  "$job"
