"""Without the extras everything loads, and what needs one says which; no server takes part."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from iot_pipeline.extras import EXTRA_OF
from iot_pipeline_tests.servers import clean_environment

ROOT = Path(__file__).parent.parent
_BLOCK = f"import sys\nsys.modules |= dict.fromkeys({sorted(EXTRA_OF)})\n"
# Where a distribution and what is imported of it have different names.
_IMPORTED_AS = {
    "aws_msk_iam_sasl_signer_python": "aws_msk_iam_sasl_signer",
    "grpcio_tools": "grpc_tools",
    "opentelemetry_sdk": "opentelemetry",
    "opentelemetry_exporter_otlp_proto_http": "opentelemetry",
}


def without_extras(code: str, folder: Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-c", _BLOCK + code],
        cwd=folder,
        env=clean_environment(
            {
                "IOT_DATA_DIR": str(folder / "data"),
                "IOT_RETRY_SECONDS": "0",
                "PYTHONPATH": str(ROOT),
            }
        ),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_every_extra_of_the_package_is_named_where_it_is_missed() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    brought = {
        (_IMPORTED_AS.get(name, name), extra)
        for extra, wanted in project["optional-dependencies"].items()
        for name in (Requirement(text).name.replace("-", "_") for text in wanted)
    }
    assert brought == set(EXTRA_OF.items())


def test_what_is_installed_is_a_range_so_that_it_goes_beside_other_code() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = [text for wanted in project["optional-dependencies"].values() for text in wanted]
    for text in [*project["dependencies"], *extras]:
        operators = {item.operator for item in Requirement(text).specifier}
        assert operators == {">=", "<"}, text


def test_definitions_and_the_component_load_without_any(tmp_path: Path) -> None:
    code = (
        "from iot_pipeline import Pipeline, build_definitions, KafkaToCassandra\n"
        "build_definitions().resolve_all_job_defs()\n"
        "import iot_pipeline.definitions\n"
    )
    loaded = without_extras(code, tmp_path)
    assert loaded.returncode == 0, loaded.stderr


@pytest.mark.parametrize(
    ("arguments", "extra"),
    [
        (["up"], "local"),
        (["demo"], "local"),
        (["export", "--day", "2026-01-31", "--out", "x"], "export"),
        (["report"], "pictures"),
        (["reading", "show", "avro.yaml"], "avro"),
        (["reading", "show", "protobuf.yaml"], "protobuf"),
        (["readings", "--format", "plot", "--", "device"], "pictures"),
        (["readings", "--format", "parquet", "--out", "x", "--", "device"], "export"),
    ],
)
def test_a_command_that_needs_one_names_it(
    arguments: list[str], extra: str, tmp_path: Path
) -> None:
    for form in ("avro", "protobuf"):
        text = f"{{version: 1, format: {form}, device: key, time: kafka, quantities: {{x: }}}}"
        (tmp_path / f"{form}.yaml").write_text(text)
    code = f"sys.argv = {['iot', *arguments]}\nfrom iot_pipeline.cli.main import main\nmain()\n"
    said = without_extras(code, tmp_path)
    assert said.returncode == 2, said.stderr
    assert f"pip install 'iot-pipeline[{extra}]'" in said.stderr
    assert "Traceback" not in said.stderr
