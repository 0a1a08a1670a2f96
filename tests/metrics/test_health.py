"""Measures and alert rules, and the shipped Prometheus rules that say the same."""

import re
from pathlib import Path

import pytest

from cas import exposition, health, metrics
from tests.store.stores import FIRST_SECOND, commit, open_store

RULES = Path(__file__).parent.parent.parent / "docs" / "alerts.rules.yml"
NOW_US = FIRST_SECOND * 1_000_000
HOUR_US = metrics.HOUR_US


@pytest.fixture
def store(tmp_path):
    with open_store(tmp_path) as opened:
        yield opened


def counted(store, at_us=NOW_US, **counts):
    with store.environment.write() as transaction:
        metrics.add(transaction, at_us, {name.replace("__", "."): value for name, value in counts.items()})


def fired(store, now_us=NOW_US):
    with store.environment.read() as transaction:
        return {alert.name: alert.severity for alert in health.evaluate(transaction, now_us)}


@pytest.mark.parametrize(
    ("good", "bad", "fires"),
    [
        (1, 1, False),
        (0, 2, False),
        (0, 3, True),
        (57, 3, False),
        (56, 3, True),
        (1000, 49, False),
        (100, 6, True),
    ],
)
def test_commit_failures_alert_above_five_per_cent_and_three(store, good, bad, fires):
    counted(store, commits=good, commit_failures__storage=bad)
    assert fired(store) == ({"CasCommitFailures": "critical"} if fires else {})


@pytest.mark.parametrize(
    ("good", "bad", "fires"), [(2, 1, False), (27, 3, False), (26, 3, True), (0, 2, False)]
)
def test_push_failures_alert_above_ten_per_cent_and_three(store, good, bad, fires):
    counted(store, pushed=good, push_failures=bad)
    assert fired(store) == ({"CasPushFailures": "warning"} if fires else {})


def test_failures_of_different_kinds_add_up(store):
    counted(store, commits=5, commit_failures__storage=2, commit_failures__invalid_input=1)
    assert "CasCommitFailures" in fired(store)


def test_failures_just_before_the_hour_are_seen_just_after_it_and_then_no_more(store):
    counted(store, commits=3, commit_failures__storage=3)
    assert fired(store, NOW_US + HOUR_US)
    assert not fired(store, NOW_US + 2 * HOUR_US)


def test_secrets_and_rollbacks_are_told(store):
    counted(store, secret_detections=2, rollbacks=1)
    assert fired(store) == {"CasSecretDetected": "info", "CasRollback": "info"}


def test_nothing_counted_alerts_nothing_and_has_no_rates(store):
    assert fired(store) == {}
    figures = store.stats()
    assert (
        figures["commit_success_rate"] is figures["push_success_rate"] is figures["avg_commit_time"] is None
    )


def test_measures_follow_their_windows(store):
    day_us = 24 * HOUR_US
    counted(store, NOW_US - 8 * day_us, secret_detections=5, rollbacks=1, commits=1, commit_stored_bytes=10)
    counted(store, NOW_US - 2 * day_us, secret_detections=1, rollbacks=1, push_failures=9)
    counted(
        store, NOW_US, commits=9, commit_failures__other=1, pushed=3, push_failures=1, **{"commit_us.0": 9}
    )
    with store.environment.read() as transaction:
        found = health.measures(transaction, NOW_US)
    assert found["commit_success_rate"] == pytest.approx(0.9)
    assert found["push_success_rate"] == pytest.approx(0.75)
    assert (found["secret_detections"], found["rollback_frequency"]) == (1, 2)
    assert found["storage_growth"]["stored_bytes"] == 10


def rendered(store):
    return exposition.render(store.environment, store.now_us).decode()


def samples(text):
    return {
        line.rpartition(" ")[0]: float(line.rpartition(" ")[2])
        for line in text.splitlines()
        if line[0] != "#"
    }


def test_exposition_shows_what_was_counted(store):
    commit(store, "a")
    commit(store, "b")
    store.flush_metrics()
    found = samples(rendered(store))
    assert found["cas_commits_total"] == found["cas_commit_duration_seconds_count"] == 2
    assert found['cas_commit_duration_seconds_bucket{le="+Inf"}'] == 2
    assert found["cas_export_backlog_runs"] == 2
    assert found['cas_commit_failures_total{reason="storage"}'] == 0
    assert found["cas_commit_success_rate"] == 1


def test_exposition_has_the_listed_names_and_no_ids(store):
    pytest.importorskip("prometheus_client", reason="the extra `metrics` is not installed")
    commit(store, "very_secret_id", workflow_id="very_secret_workflow")
    store.flush_metrics()
    text = rendered(store)
    assert {re.match(r"\w+", name)[0] for name in samples(text)} <= exposition.NAMES
    assert "very_secret" not in text
    assert str(store.config.store_dir) not in text


def test_exposition_is_read_by_the_official_parser(store):
    parser = pytest.importorskip("prometheus_client.parser", reason="the extra `metrics` is not installed")
    families = {family.name for family in parser.text_string_to_metric_families(rendered(store))}
    assert {"cas_commits", "cas_commit_duration_seconds", "cas_storage_growth_bytes"} <= families


def test_rules_file_uses_names_that_are_exposed():
    text = RULES.read_text()
    used = set(re.findall(r"\bcas_\w+", text))
    assert used
    assert used <= exposition.NAMES


def test_rules_file_has_the_rules_of_the_store():
    text = RULES.read_text()
    rules = dict(re.findall(r"- alert: (\w+)\n(?:.*\n)*?\s+severity: (\w+)", text))
    assert (
        rules.items()
        >= {
            "CasCommitFailures": "critical",
            "CasPushFailures": "warning",
            "CasSecretDetected": "info",
            "CasRollback": "info",
        }.items()
    )
    assert f"> {health.COMMIT_FAILURE_LIMIT:.2f}" in text
    assert f"> {health.PUSH_FAILURE_LIMIT:.2f}" in text
    assert text.count(f">= {health.LEAST_FAILURES}") == 2


def test_storage_growth_adds_up_the_bytes_of_a_month(store):
    for days, raw_bytes, stored_bytes in ((40, 5000, 500), (10, 1000, 300)):
        at_us = NOW_US - days * 24 * HOUR_US
        counted(store, at_us, commit_raw_bytes=raw_bytes, commit_stored_bytes=stored_bytes)
    counted(store, NOW_US, commit_raw_bytes=24, commit_stored_bytes=7)
    with store.environment.read() as transaction:
        growth = health.measures(transaction, NOW_US)["storage_growth"]
    assert (growth["raw_bytes"], growth["stored_bytes"]) == (1024, 307)


def test_storage_growth_of_a_store_without_commits_is_nothing(store):
    with store.environment.read() as transaction:
        growth = health.measures(transaction, NOW_US)["storage_growth"]
    assert growth == {"raw_bytes": 0, "stored_bytes": 0, "file_bytes": 0}
