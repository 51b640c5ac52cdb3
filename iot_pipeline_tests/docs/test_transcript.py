from iot_pipeline_tests.docs.transcript import Step, missing_lines, read_steps

_TEXT = """
Some words.

```console
$ iot lag \\
    --json
lag 0 offsets
$ iot up
```

```sh
$ not this one
```
"""


def test_commands_and_what_they_print_are_read_from_console_blocks() -> None:
    steps = read_steps(_TEXT)
    assert steps == [Step("iot lag \\\n    --json", ["lag 0 offsets"]), Step("iot up")]


def test_numbers_and_dots_stand_for_any_and_words_do_not() -> None:
    step = Step("x", ["stored 1,234 rows in 0.5 s", "lost … 0"])
    assert missing_lines(step, "a\nstored  12 rows in 3 s\nlost and found 7\n") == []
    assert missing_lines(step, "stored some rows in 3 s\nlost in all 0") == [
        "stored 1,234 rows in 0.5 s"
    ]
    assert missing_lines(step, "lost 0 0\nstored 1 rows in 1 s\n") == ["lost … 0"]
