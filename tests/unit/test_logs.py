from __future__ import annotations

import io
import json
import logging
import os
import subprocess
import sys
import textwrap
import time
from typing import TYPE_CHECKING, Any

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from campaign_worker import logs
from campaign_worker.masking import clean, without_addresses, without_secrets

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def out() -> Iterator[io.StringIO]:
    """Log as JSON at level debug into a buffer, and leave no handler behind."""
    stream = io.StringIO()
    root = logging.getLogger()
    level = root.level
    logs.configure("json", "debug", instance="replica-1", stream=stream)
    try:
        yield stream
    finally:
        for handler in [h for h in root.handlers if isinstance(h, logs.LineHandler)]:
            root.removeHandler(handler)
        root.setLevel(level)
        logging.captureWarnings(capture=False)
        structlog.reset_defaults()


def lines(out: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in out.getvalue().splitlines()]


def raised(error: Exception) -> Exception:
    """Return the error with a traceback."""
    try:
        raise error  # noqa: TRY301 - the point of this function
    except Exception as caught:  # noqa: BLE001 - whatever the test gave
        return caught


def test_a_line_is_one_json_object_with_what_was_bound(out: io.StringIO) -> None:
    log = structlog.get_logger().bind(campaign=7, recipient=12, job_id="3", attempt=1)

    log.info("sent", seconds=0.25)

    (line,) = lines(out)
    assert line.pop("timestamp").endswith("Z")
    assert list(line)[:2] == ["message", "level"]
    assert line == {
        "message": "sent",
        "level": "info",
        "campaign": 7,
        "recipient": 12,
        "job_id": "3",
        "attempt": 1,
        "seconds": 0.25,
        "instance": "replica-1",
    }


def test_context_variables_are_bound_to_every_line(out: io.StringIO) -> None:
    with structlog.contextvars.bound_contextvars(job_id="9"):
        structlog.get_logger().info("claimed")

    assert lines(out)[0]["job_id"] == "9"


def test_lines_of_libraries_come_out_the_same_way(out: io.StringIO) -> None:
    logging.getLogger("asyncio").warning("slow %s", "callback", extra={"seconds": 3})

    (line,) = lines(out)
    assert line["message"] == "slow callback"
    assert (line["level"], line["logger"], line["seconds"]) == ("warning", "asyncio", 3)
    assert line["instance"] == "replica-1"


def test_debug_lines_of_libraries_are_left_out(out: io.StringIO) -> None:
    logging.getLogger("redis").debug("wire")

    assert lines(out) == []


def test_a_traceback_is_one_field_of_one_line(out: io.StringIO) -> None:
    structlog.get_logger().error("settle failed", exc_info=raised(LookupError("no row")))

    (line,) = lines(out)
    assert line["exception"].startswith("Traceback (most recent call last):\n")
    assert line["exception"].endswith("LookupError: no row")


@pytest.mark.parametrize("level", ["info", "warning", "error"])
def test_addresses_and_subjects_stay_out_of_lines_above_debug(out: io.StringIO, level: str) -> None:
    error = raised(ValueError("550 <jane.o'neil+x@example.com> unknown"))

    getattr(structlog.get_logger(), level)(
        "refused jane@example.com",
        subject="Hello Jane",
        to=["<jane@example.com>"],
        by={"jane@example.com": error},
        link="https://a.example/u?e=jane%40example.com",
        exc_info=error,
    )

    (line,) = lines(out)
    assert "jane" not in out.getvalue().lower()
    assert line["exception"].endswith("ValueError: 550 <[address]> unknown")
    assert line["message"] == "refused [address]"
    assert line["subject"] == "***"


def test_an_address_in_a_line_of_a_library_stays_out_too(out: io.StringIO) -> None:
    logging.getLogger("aiosmtplib").error("RCPT TO:<%s> failed", "jane@example.com")

    assert lines(out)[0]["message"] == "RCPT TO:<[address]> failed"


def test_debug_lines_may_name_an_address_but_never_a_secret(out: io.StringIO) -> None:
    structlog.get_logger().debug("to jane@example.com", password="hunter2")

    (line,) = lines(out)
    assert line["message"] == "to jane@example.com"
    assert line["password"] == "***"


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("redis://default:hunter2@redis.internal:6379/0", "redis.internal:6379/0"),
        ("redis://:hunter2@h:1", "h:1"),
        ("postgresql://u:hun@ter2@h/db?sslmode=require", "h/db?sslmode=require"),
        ("smtp+starttls://u:hunter2/x@h:587", "smtp+starttls://"),
        ("cannot connect to 'rediss://u:hunter2@h:1'.", "cannot connect to"),
        ("host=h user=u password=hunter2 dbname=d", "dbname=d"),
        ('{"password": "hunter2", "port": 1}', '"port": 1'),
        ("Authorization: Bearer hunter2", "Authorization:"),
        ("https://h/?token=hunter2&x=1", "&x=1"),
    ],
)
@pytest.mark.parametrize("addresses", [True, False])
def test_a_secret_is_masked_wherever_it_stands(text: str, kept: str, addresses: bool) -> None:
    masked = clean(text, addresses=addresses)

    assert "hunter2" not in masked
    assert "ter2" not in masked
    assert kept in masked


@pytest.mark.parametrize(
    "key", ["password", "SMTP_PASSWORD", "token", "lockToken", "client_secret", "Authorization"]
)
def test_the_value_of_a_secret_key_is_masked_at_any_depth(key: str) -> None:
    assert clean({"a": [{key: ("x", 1)}]}, addresses=True) == {"a": [{key: "***"}]}


def test_an_object_cannot_smuggle_anything_past_the_mask() -> None:
    class Endpoint:
        def __repr__(self) -> str:
            return "Endpoint(smtp://u:hunter2@h, jane@example.com)"

    assert clean([Endpoint()], addresses=False) == ["Endpoint(smtp://***@h, [address])"]


@given(st.emails(), st.text(), st.text())
def test_no_address_survives(address: str, before: str, after: str) -> None:
    assert address not in without_addresses(f"{before} {address} {after}")
    assert address not in without_addresses(f"<{address}>")
    assert address not in without_addresses(f"to={address};")


@given(
    st.text(st.characters(exclude_characters="\"'<>", exclude_categories=["Z", "C"]), min_size=8)
)
def test_no_password_of_a_url_survives(password: str) -> None:
    assert password not in without_secrets(f"at redis://user:{password}@host/0 today")


json_like = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters())
    | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.integers(), inner),
    max_leaves=20,
)


@given(json_like, st.booleans())
def test_whatever_is_logged_becomes_strict_json(value: object, addresses: bool) -> None:
    text = json.dumps(clean(value, addresses=addresses), allow_nan=False)

    assert text.isascii()


@pytest.mark.parametrize(
    "hostile",
    [
        "a" * 10**6,
        "a://" * 10**5 + "@",
        '"' * 10**5 + "@",
        "a%" * 10**5 + "%40",
        "a@" * 10**5,
        "password" * 10**5 + "=",
    ],
)
def test_hostile_text_costs_little_time(hostile: str) -> None:
    began = time.perf_counter()

    masked = clean(hostile, addresses=False)

    assert time.perf_counter() - began < 1
    assert len(masked) < 40_000


def test_a_record_that_cannot_be_formatted_is_reported_and_nothing_else_happens(
    out: io.StringIO,
) -> None:
    (handler,) = [h for h in logging.getLogger().handlers if isinstance(h, logs.LineHandler)]
    # Straight to our handler: pytest's own raises what a real process never sees.
    handler.handle(logging.makeLogRecord({"name": "redis", "msg": "%d", "args": ("x",)}))
    structlog.get_logger().info("still here")

    assert [line["message"] for line in lines(out)] == [
        "a log record could not be formatted",
        "still here",
    ]


def test_configuring_again_replaces_what_was_there(out: io.StringIO) -> None:
    second = io.StringIO()
    logs.configure("json", "warning", stream=second)

    structlog.get_logger().info("quiet")
    structlog.get_logger().warning("loud")

    assert out.getvalue() == ""
    assert [line["message"] for line in lines(second)] == ["loud"]


def test_people_get_text_and_no_colour_codes_in_a_file(out: io.StringIO) -> None:
    terminal = io.StringIO()
    logs.configure("console", "info", stream=terminal)

    error = raised(LookupError("jane@example.com"))
    structlog.get_logger().error("settle failed", job_id="3", exc_info=error)

    assert "settle failed job_id=3" in terminal.getvalue()
    assert "LookupError: [address]" in terminal.getvalue()
    assert "\x1b" not in terminal.getvalue()
    assert out.getvalue() == ""


PROGRAM = textwrap.dedent("""
    import sys, structlog
    from campaign_worker.logs import configure

    configure("json")
    log = structlog.get_logger()
    log.info("first")
    sys.stdin.readline()
    for _ in range(3):
        log.info("into the void")
    print("alive", file=sys.stderr)
""")


def run_with_stdout(descriptor: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM],
        stdin=subprocess.PIPE,
        stdout=descriptor,
        stderr=subprocess.PIPE,
        # Buffered, as Python is unless told otherwise: the buffer is flushed once more at exit.
        env={name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"},
        text=True,
    )


def test_a_reader_that_goes_away_does_not_end_the_process() -> None:
    reader, writer = os.pipe()
    with run_with_stdout(writer) as process:
        os.close(writer)
        with os.fdopen(reader) as stdout:
            assert json.loads(stdout.readline())["message"] == "first"
        _, stderr = process.communicate("go\n", timeout=10)

    assert (process.returncode, stderr) == (0, "alive\n")


def test_a_full_disk_does_not_end_the_process() -> None:
    with open("/dev/full", "w") as full, run_with_stdout(full.fileno()) as process:  # noqa: PTH123 - a device
        _, stderr = process.communicate("go\n", timeout=10)

    assert stderr.startswith("alive\n")
    assert "Traceback" not in stderr.split("alive\n")[0]


def test_a_process_without_a_stdout_logs_to_nowhere() -> None:
    done = subprocess.run(
        ["sh", "-c", 'exec "$0" -c "$1" >&-', sys.executable, PROGRAM],
        input="go\n",
        stderr=subprocess.PIPE,
        text=True,
        timeout=10,
        check=False,
    )

    assert (done.returncode, done.stderr) == (0, "alive\n")
