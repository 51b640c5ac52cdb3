"""The servers that `iot up` starts on this machine; docker-compose.yml reads the same variables."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Port = Annotated[int, Field(ge=1, le=65535)]


class LocalSettings(BaseModel):
    """Ports, Java and names. `Settings` checks that no two ports are one."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    kafka_port: Port = 9092
    """local Kafka: clients"""
    kafka_internal_port: Port = 19092
    """local Kafka: other containers"""
    kafka_controller_port: Port = 9093
    """local Kafka: KRaft controller"""
    cassandra_storage_port: Port = 7000
    """local Cassandra: between nodes"""
    cassandra_jmx_port: Port = 7199
    """local Cassandra: JMX"""
    kafka_retention_check_ms: int = Field(300_000, ge=100)
    """local Kafka: how often it looks for records to delete"""
    cassandra_opts: str = ""
    """local Cassandra: more -Dname=value options"""
    cluster_name: str = Field(
        "",
        pattern=r"^[A-Za-z0-9_.-]{0,48}$",
        json_schema_extra={"form": "letters, digits, _, . and -, at most 48"},
    )
    """local Cassandra's cluster name; empty: one of its own per data folder"""
    java_home: str = ""
    """a JDK 17 for the local services; empty: find one"""
    jar_cache: str = ""
    """where jars are kept; empty: the user's cache folder"""
