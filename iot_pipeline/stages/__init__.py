"""One function per stage: core plus ports, in the order that keeps data safe.

The rooms are those of `core`; `ports` says what they need from the outside. Here a check asks all
the others, so `checks` comes last, and one ingest run (`run_ingest`) goes through ingest, proof and
fleet, so it stands above them. What has to be there before any reading, topics and tables, is set
up and compared by `schema` and `topics`.
"""
