"""Settings as a process reads them: from the environment, all errors at once, secrets masked."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from campaign_worker.errors import InvalidSettings, SettingsError
from campaign_worker.settings import DatabaseSettings, Pooler, QueueSpec, Settings, show

SECRET = "s3cret-word"
NEEDED = {
    "REDIS_URL": f"redis://default:{SECRET}@redis:6379",
    "DATABASE_URL": f"postgresql://app:{SECRET}@db:5432/app",
    "SMTP_URL": f"smtp+starttls://mailer:{SECRET}@mail.example.org:587",
    "MAIL_FROM": "News <news@example.org>",
}
MEMORY = Path("/proc/self/mem")
PLATFORM = ("RAILWAY_SERVICE_ID", "RAILWAY_ENVIRONMENT_ID", "RAILWAY_REPLICA_ID", "PORT")


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Start each test in an empty directory with the least environment."""
    for name in PLATFORM:
        monkeypatch.delenv(name, raising=False)
    for name, value in NEEDED.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)


def problems(**values: str) -> dict[str, str]:
    """Return what is refused, by variable."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in values.items():
            patch.setenv(name, value)
        with pytest.raises(InvalidSettings) as raised:
            Settings.load()
    return {problem.setting: str(problem) for problem in raised.value.problems}


def loaded(**values: str) -> Settings:
    """Return the settings of the least environment and `values`."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in values.items():
            patch.setenv(name, value)
        return Settings.load()


def test_the_least_environment_is_enough() -> None:
    settings = Settings.load()
    assert settings.queues == (QueueSpec("campaign", 20),)
    assert settings.smtp_max_connections == 20
    assert settings.migrate_database_url == settings.database_url
    assert settings.send_rate_per_second is None
    assert settings.warnings == ()


def test_all_errors_come_at_once_and_name_their_variables() -> None:
    found = problems(
        PORT="eighty",
        QUEUES="campaign:many",
        LIMITER_MAX="5",
        REDIS_URL="http://redis",
        SMTP_URL_BULK="smtp://mail:port",
        LEASE_SECONDS="0.5",
        LOG_FORMAT="xml",
        MAIL_FROM="nobody",
    )
    assert set(found) == {
        *("PORT", "QUEUES", "LIMITER_DURATION_MS", "REDIS_URL", "SMTP_URL_BULK"),
        *("LEASE_SECONDS", "LOG_FORMAT", "MAIL_FROM"),
    }
    assert "not 'eighty'" in found["PORT"]


def test_an_empty_variable_counts_as_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PORT", "")
    monkeypatch.setenv("MAIL_FROM", "")
    with pytest.raises(InvalidSettings) as raised:
        Settings.load()
    assert [problem.setting for problem in raised.value.problems] == ["MAIL_FROM"]
    assert "is missing" in str(raised.value)


def test_a_dot_env_file_is_read_and_the_environment_wins(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("PORT=9000\nCONCURRENCY=7\nSMTP_URL_BULK=smtp://bulk:25\n")
    settings = loaded(CONCURRENCY="9")
    assert (settings.port, settings.concurrency) == (9000, 9)
    assert set(settings.transports) == {"default", "bulk"}


def test_a_dot_env_file_that_is_not_utf8_is_named_and_not_repeated(tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes(b"PORT=9000\nREDIS_URL=redis://:s\xe4cret@h\n")
    with pytest.raises(InvalidSettings) as raised:
        Settings.load()
    assert raised.value.setting == ".env"
    assert "is not UTF-8 at byte 30" in str(raised.value)
    assert "cret" not in str(raised.value)


@pytest.mark.skipif(not MEMORY.exists(), reason="a regular file that cannot be read, of Linux")
def test_a_dot_env_file_that_cannot_be_read_is_named() -> None:
    with pytest.raises(InvalidSettings, match="cannot be read: Input/output error") as raised:
        Settings.load(env_file=MEMORY)
    assert raised.value.setting == str(MEMORY)


@pytest.mark.parametrize(
    ("variable", "meant"),
    [
        ("SEND_RATE", "SEND_RATE_PER_SECOND"),
        ("AMBIGOUS_SEND", "AMBIGUOUS_SEND"),
        ("TRACKING_SIGNING_KEY", "TRACKING_SIGNING_KEYS"),
        ("QUEUE", "QUEUES"),
        ("loglevel", "LOG_LEVEL"),
    ],
)
def test_a_variable_that_is_nearly_a_setting_is_doubted(variable: str, meant: str) -> None:
    (warning,) = loaded(**{variable: SECRET}).warnings
    assert warning == f"{variable}: is no setting, and does nothing; is {meant} meant?"


def test_a_misnamed_variable_of_the_file_is_doubted_too(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("DRAIN_SECOND=60\nLOGGING=1\n")
    (warning,) = Settings.load().warnings
    assert warning.startswith("DRAIN_SECOND: ")


def test_what_only_resembles_a_setting_that_is_set_is_left_alone() -> None:
    others = {"REDIS_URL_2": "x", "REDIS_URI": "x", "SMTP_URL_BULK": "smtp://bulk:25"}
    platforms = {"RAILWAY_SERVICE_NAME": "x", "WEB_CONCURRENCY": "2", "QUEUE": ""}
    assert loaded(**others, **platforms).warnings == ()


def test_a_missing_setting_names_the_variable_that_may_be_meant(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("REDIS_URL")
    said = problems(REDIS_URI=f"redis://:{SECRET}@redis:6379")["REDIS_URL"]
    assert said.startswith("REDIS_URL: is missing, and REDIS_URI is no setting (")
    assert SECRET not in said


def test_secrets_show_nowhere() -> None:
    keys = f"new:{SECRET * 4},old:{SECRET * 5}"
    settings = loaded(SMTP_URL_BULK=f"smtps://a:{SECRET}@bulk", TRACKING_SIGNING_KEYS=keys)
    shown = [repr(settings), str(settings), *(row.value for row in show(settings))]
    assert not [text for text in shown if SECRET in text]
    assert settings.redis_url.get_secret_value() == NEEDED["REDIS_URL"]


@pytest.mark.parametrize("variable", ["REDIS_URL", "DATABASE_URL", "SMTP_URL", "SMTP_URL_X"])
@pytest.mark.parametrize("password", ["a/b", "a#b", "a?b", "a@b/c", "a b", "a\nb", "[", "a]b["])
def test_no_error_repeats_a_password(variable: str, password: str) -> None:
    secret = f"{SECRET}{password}{SECRET}"
    scheme = {"REDIS_URL": "redis", "DATABASE_URL": "postgres"}.get(variable, "smtp")
    found = problems(**{variable: f"{scheme}://user:{secret}@host:1:2/x"})
    assert set(found) == {variable}
    assert SECRET not in found[variable]


def test_settings_are_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Settings.load().port = 1


def test_named_transports_are_keyed_by_lower_case_name() -> None:
    settings = loaded(SMTP_URL_SES_EU="smtps://u:p@ses")
    assert list(settings.transports) == ["default", "ses_eu"]


def test_one_named_transport_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SMTP_URL")
    assert list(loaded(SMTP_URL_BULK="smtp://bulk").transports) == ["bulk"]
    assert set(problems()) == {"SMTP_URL"}


def test_the_name_default_belongs_to_smtp_url() -> None:
    assert set(problems(SMTP_URL_DEFAULT="smtp://other")) == {"SMTP_URL_DEFAULT"}


def test_queues_may_name_their_own_concurrency() -> None:
    settings = loaded(QUEUES="campaign, news:5", CONCURRENCY="8")
    assert settings.queues == (QueueSpec("campaign", 8), QueueSpec("news", 5))
    assert settings.smtp_max_connections == 13


@pytest.mark.parametrize("text", [",", "a:", ":5", "a:0", "a:-1", "a:1:2", "a,a", "a b", "a:²"])
def test_queues_that_make_no_sense_are_refused(text: str) -> None:
    assert set(problems(QUEUES=text)) == {"QUEUES"}


def test_a_limiter_needs_both_values() -> None:
    assert set(problems(LIMITER_MAX="1")) == {"LIMITER_DURATION_MS"}
    assert set(problems(LIMITER_DURATION_MS="1")) == {"LIMITER_MAX"}
    assert loaded(LIMITER_MAX="1", LIMITER_DURATION_MS="1000").limiter_max == 1


@pytest.mark.parametrize("variable", ["LIMITER_MAX", "LIMITER_DURATION_MS"])
def test_a_limit_that_redis_cannot_count_is_refused(variable: str) -> None:
    limiter = {"LIMITER_MAX": "1", "LIMITER_DURATION_MS": "1000"}
    assert variable in problems(**{**limiter, variable: "1" + "0" * 30})


@pytest.mark.parametrize("rate", ["0", "1e-300", "5e-324", "1e9", "nan", "inf", "-1", "many"])
def test_a_rate_that_makes_no_sense_is_refused(rate: str) -> None:
    assert set(problems(SEND_RATE_PER_SECOND=rate)) == {"SEND_RATE_PER_SECOND"}
    assert loaded(SEND_RATE_PER_SECOND="0.5").send_rate_per_second == 0.5


def test_a_lease_may_be_shorter_than_a_send_because_it_is_renewed() -> None:
    assert loaded(SEND_TIMEOUT="90", LEASE_SECONDS="60").lease_seconds == 60


@pytest.mark.parametrize("name", ["public", "pg_x", 'a"b', "A", "1a", "a;drop", "a" * 64])
def test_a_schema_must_be_an_identifier_of_our_own(name: str) -> None:
    assert set(problems(DATABASE_SCHEMA=name)) == {"DATABASE_SCHEMA"}


def test_tracking_links_are_never_unsigned() -> None:
    base = {"TRACKING_BASE_URL": "https://t.example.org/"}
    assert set(problems(**base)) == {"TRACKING_SIGNING_KEYS"}
    settings = loaded(**base, TRACKING_SIGNING_KEYS="k1:" + "x" * 32)
    assert settings.tracking_base_url == "https://t.example.org"
    assert [key.id for key in settings.tracking_signing_keys] == ["k1"]


@pytest.mark.parametrize("keys", ["k", "k:short", "k k:" + "x" * 32, f"a:{'x' * 32},a:{'y' * 32}"])
def test_weak_or_doubled_signing_keys_are_refused(keys: str) -> None:
    assert set(problems(TRACKING_SIGNING_KEYS=keys)) == {"TRACKING_SIGNING_KEYS"}


def test_the_instance_is_the_replica_where_the_platform_names_one() -> None:
    assert loaded(RAILWAY_REPLICA_ID="r-1").instance_id == "r-1"
    assert loaded(RAILWAY_REPLICA_ID="r-1", INSTANCE_ID="mine").instance_id == "mine"
    assert Settings.load().instance_id
    assert "RAILWAY_REPLICA_ID" in problems(RAILWAY_REPLICA_ID="r" * 129)["INSTANCE_ID"]


@pytest.mark.parametrize("spelling", ["warn", "WARNING", "Warn"])
def test_log_levels_are_read_in_every_spelling(spelling: str) -> None:
    assert loaded(LOG_LEVEL=spelling).log_level == "warning"


def test_migrations_need_no_more_than_postgres(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("REDIS_URL", "SMTP_URL", "MAIL_FROM"):
        monkeypatch.delenv(name)
    assert DatabaseSettings.load().database_schema == "campaign_worker"


def test_prismas_pgbouncer_switches_to_transaction_pooling() -> None:
    url = NEEDED["DATABASE_URL"] + "?pgbouncer=true&connection_limit=1"
    settings = loaded(DATABASE_URL=url)
    assert settings.database_pooler is Pooler.TRANSACTION
    assert any("pgbouncer" in warning for warning in settings.warnings)
    forced = loaded(DATABASE_URL=NEEDED["DATABASE_URL"], DATABASE_POOLER="transaction")
    assert forced.database_pooler is Pooler.TRANSACTION


def test_arguments_that_nobody_knows_are_left_out_and_named() -> None:
    settings = loaded(REDIS_URL="redis://redis?family=0&tls=x", DATABASE_URL="postgres://h/d?foo=1")
    assert settings.warnings == (
        "REDIS_URL: not understood and left out: tls",
        "DATABASE_URL: not understood and left out: foo",
    )


@given(st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",)), max_size=60))
def test_no_text_makes_a_number_or_a_url_crash(text: str) -> None:
    names = ("PORT", "QUEUES", "SEND_TIMEOUT", "REDIS_URL", "TRACKING_SIGNING_KEYS", "EHLO_NAME")
    with pytest.MonkeyPatch.context() as patch:
        for name in names:
            patch.setenv(name, text)
        try:
            settings = Settings.load()
        except SettingsError as error:
            assert error.setting in names  # noqa: PT017 -- either ending is right
        else:
            assert settings.port
