"""`iot`: one command per stage and per question, `--json` where a script would ask.

One module per group of commands; `main` puts them together.
"""
