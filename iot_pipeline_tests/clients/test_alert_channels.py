"""Channels on real servers: JSON over HTTP, e-mail over SMTP, and what is not told of them."""

import logging
import subprocess

import pytest

from iot_pipeline.clients.alert_channels import AppriseChannels
from iot_pipeline.core.alerts.changes import Message
from iot_pipeline.core.alerts.conditions import Level
from iot_pipeline.errors import ConfigurationError
from iot_pipeline.settings import Settings
from iot_pipeline_tests.pipeline import IOT
from iot_pipeline_tests.receivers import mailbox, webhook
from iot_pipeline_tests.servers import clean_environment, free_ports

SECRET = "hunter2-of-nobody"


def message(channel: str) -> Message:
    body = "ERROR: server_is_away/Kafka\nkafka:9092 <no answer> *at* all & so on"
    return Message("id1", channel, Level.ERROR, "iot: server_is_away/Kafka is red", body, 0)


def test_a_webhook_and_a_mailbox_get_the_message_as_it_was_written(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    with webhook() as hook, mailbox() as box:
        urls = {
            "ops": f"json://{hook.address}/{SECRET}",
            "mail": f"mailto://{box.address}?from=iot@example.org&to=ops@example.org",
        }
        channels = AppriseChannels(urls)
        assert list(channels.names) == ["ops", "mail"]
        assert channels.send(message("ops"), 0) == ""
        assert channels.send(message("mail"), 3) == ""
        ((path, posted),) = hook.posted
        assert path == f"/{SECRET}"
        assert posted["title"] == message("ops").title
        assert posted["message"] == message("ops").body
        assert posted["type"] == "failure"
        (mail,) = box.mails
        assert mail["Subject"] == message("mail").title
        text = mail.get_body(("plain", "html")).get_content()
        assert "3 earlier messages were not delivered" in text
        hook.status = 503
        assert channels.send(message("ops"), 0) == "it answered 503"
    assert channels.send(message("ops"), 0) == "it did not answer, or refused"
    assert channels.send(message("mail"), 0) == "it did not answer, or refused"
    # No log record of ours has the address, whatever level is shown.
    assert SECRET not in caplog.text


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"IOT_ALERT_CHANNELS": f"ops={SECRET}"}, "channel 1: expected NAME=URL"),
        ({"IOT_ALERT_CHANNELS": f"ops=nosuch://{SECRET}"}, "channel ops: its URL is none"),
        (
            {"IOT_ALERT_CHANNELS": f"ops=json://h/{SECRET}", "IOT_ALERT_ROUTES": "day=all"},
            "IOT_ALERT_ROUTES=day=all: day=all: no channel is called 'day'",
        ),
        ({"IOT_ALERT_QUIET_HOURS": "at night"}, "IOT_ALERT_QUIET_HOURS=at night: expected hours"),
        ({"IOT_UI_URL": "localhost"}, "IOT_UI_URL=localhost"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_contacted_and_tells_no_secret(
    variables: dict[str, str], words: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ConfigurationError) as refused:
        Settings.from_env(variables)
    assert words in str(refused.value)
    assert SECRET not in str(refused.value)
    assert SECRET not in "".join(capfd.readouterr())


@pytest.mark.parametrize("kind", ["nosuch", "slack", "mailto"])
def test_a_command_tells_no_address_that_is_refused(kind: str) -> None:
    """In a process of its own: what no handler takes, Python prints to stderr.

    In capitals: Apprise hides a part of what looks like a password to it, and not of this.
    """
    secret = SECRET.replace("-", "").upper()
    done = subprocess.run(
        [IOT, "settings"],
        env=clean_environment({"IOT_ALERT_CHANNELS": f"ops={kind}://{secret}"}),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "channel ops: its URL is none" in done.stderr
    assert secret not in done.stderr + done.stdout


def test_every_kind_of_channel_in_the_docs_is_one_that_apprise_understands(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    (port,) = free_ports(1)
    urls = [
        f"json://127.0.0.1:{port}/hook",
        "jsons://hooks.example.org/alerts?+Authorization=token",
        "slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ/#iot",
        "workflow://prod-00.westeurope.logic.azure.com:443/643e69f83c8944/KmpFQ2JL",
        "mailtos://user:password@smtp.example.org/ops@example.org?from=iot@example.org",
    ]
    text = "\n".join(f"channel{n}={url}" for n, url in enumerate(urls))
    file = tmp_path_factory.mktemp("secret") / "channels"
    file.write_text(f"# the team's\n{text}\n")
    settings = Settings.from_env({"IOT_ALERT_CHANNELS_FILE": str(file)})
    assert list(settings.alert_urls.values()) == urls
    shown = {name: value for name, value, _, _ in settings.rows()}
    assert shown["IOT_ALERT_CHANNELS"] == "********"
    assert "user:password" not in repr(settings)
