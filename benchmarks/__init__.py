"""How fast it is, measured against a hand-written consumer and against peers; `make bench`."""
