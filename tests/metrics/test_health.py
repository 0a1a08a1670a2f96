"""Measures and alert rules, and the shipped Prometheus rules that say the same."""

import re
import sys
from pathlib import Path

import pytest

from cas import catalog, exposition, health, manifest, metrics, outbox, stats
from cas.errors import ConfigError
from cas.lmdbenv import Table
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


def measured(store, now_us=NOW_US):
    with store.environment.read() as transaction:
        return health.measures(transaction, now_us)


def test_storage_growth_of_the_file_is_from_the_first_size_in_a_month_to_the_last(store):
    for days, file_bytes in ((31, 100), (20, 700), (10, 900), (1, 1500)):
        counted(store, NOW_US - days * 24 * HOUR_US, commits=1, file_bytes=file_bytes)
    counted(store, NOW_US, commits=1)
    assert measured(store)["storage_growth"]["file_bytes"] == 800


def test_commit_times_are_those_of_a_day_in_seconds(store):
    counted(store, NOW_US - 25 * HOUR_US, **{"commit_us": 10**9, "commit_us.20": 100})
    counted(store, **{"commit_us": 30_000, "commit_us.0": 1, "commit_us.1": 98, "commit_us.12": 1})
    found = measured(store)
    assert found["avg_commit_time"] == pytest.approx(0.0003)
    assert 0.0005 < found["commit_time_p50"] <= 0.0007
    assert 0.0005 < found["commit_time_p99"] <= 0.0007
    assert found["commit_success_rate"] == 1


def test_day_ends_before_the_hour_that_began_a_day_ago(store):
    counted(store, NOW_US // HOUR_US * HOUR_US - 24 * HOUR_US, pushed=5, push_failures=5)
    assert measured(store)["push_success_rate"] is None
    counted(store, NOW_US // HOUR_US * HOUR_US - 23 * HOUR_US, pushed=3, push_failures=1)
    assert measured(store)["push_success_rate"] == 0.75


def test_last_commit_is_known_beyond_every_window(store):
    assert measured(store)["last_commit_at_us"] is None
    counted(store, NOW_US - 90 * 24 * HOUR_US, commits=1, last_commit_at_us=77)
    assert measured(store)["last_commit_at_us"] == 77


def test_commit_failures_of_every_reason_lower_the_success_rate_and_secrets_do_not(store):
    counted(store, commits=6, commit_failures__storage=1, commit_failures__unexpected=1, secret_refusals=9)
    assert measured(store)["commit_success_rate"] == 0.75


def test_alerts_say_what_was_counted_the_most_urgent_first(store):
    counted(
        store,
        commits=12,
        commit_failures__storage=4,
        pushed=1,
        push_failures=3,
        secret_detections=2,
        rollbacks=1,
    )
    with store.environment.read() as transaction:
        alerts = health.evaluate(transaction, NOW_US)
    assert [alert.as_dict() for alert in alerts] == [
        {
            "name": "CasCommitFailures",
            "severity": "critical",
            "reason": "4 of 16 commits failed in an hour: 25%, more than 5%",
        },
        {
            "name": "CasPushFailures",
            "severity": "warning",
            "reason": "3 of 4 pushes failed in an hour: 75%, more than 10%",
        },
        {
            "name": "CasSecretDetected",
            "severity": "info",
            "reason": "2 x secret detected: investigate, and rotate it",
        },
        {"name": "CasRollback", "severity": "info", "reason": "1 x rollback performed: review its reason"},
    ]


def test_secrets_of_two_hours_add_up_and_failures_of_two_hours_do_not(store):
    counted(store, NOW_US - HOUR_US, commit_failures__other=2, secret_detections=1, rollbacks=2)
    counted(store, commit_failures__other=2, secret_detections=3, rollbacks=2)
    with store.environment.read() as transaction:
        reasons = [alert.reason.partition(" ")[0] for alert in health.evaluate(transaction, NOW_US)]
    assert reasons == ["4", "4"]


def test_figures_of_a_store_are_its_rows_and_its_files(store):
    for number in range(3):
        commit(store, f"c{number}", files={"a.csv": b"%d\n" % number * 99, "same.csv": b"same\n"})
    found = store.stats()
    with store.environment.read() as transaction:
        kept_bytes = sum(len(value) for _, value in transaction.scan(Table.SEGMENTS))
        created_us = manifest.decode(catalog.get_row(transaction, 1).manifest).created_at_us
    assert (found["manifests"], found["blobs"]) == (3, 4)
    assert (found["queued"], found["awaiting_push"], found["parked"]) == (3, 0, 0)
    assert kept_bytes < found["stored_bytes"] < kept_bytes + 64 * 1024
    assert 0 < found["index_bytes"] < found["used_bytes"] <= found["file_bytes"]
    assert found["file_bytes"] == (store.config.store_dir / "data.mdb").stat().st_size
    assert found["used_bytes"] == store.environment.used_bytes()
    assert (found["last_export_at_us"], found["last_push_at_us"]) == (None, None)
    assert found["last_commit_at_us"] > created_us
    for later_s in (0, 90.5):
        at_us = created_us + int(later_s * 1_000_000)
        assert stats.collect(store.environment, at_us)["backlog_age_s"] == later_s
    assert stats.collect(store.environment, created_us - 5)["backlog_age_s"] == 0.0


def test_disk_that_is_left_is_that_of_the_stores_folder(store, monkeypatch):
    asked = []

    class Usage:
        free = 12345

    monkeypatch.setattr("shutil.disk_usage", lambda path: asked.append(path) or Usage)
    assert store.stats()["disk_free_bytes"] == 12345
    assert asked == [store.environment.directory]


def test_backlog_is_told_by_stage_with_the_age_of_what_waits_for_git(store):
    for number in range(5):
        commit(store, f"c{number}")
    with store.environment.write() as transaction:
        outbox.record_exported(transaction, [1, 3], now_us=NOW_US)
        for sequence in (2, 3):
            outbox.record_failure(transaction, sequence, reason="refused", now_us=NOW_US, park=True)
    found = store.stats()
    assert (found["queued"], found["awaiting_push"], found["parked"]) == (2, 1, 2)
    assert (found["last_export_at_us"], found["last_push_at_us"]) == (NOW_US, None)
    with store.environment.read() as transaction:
        created_us = manifest.decode(catalog.get_row(transaction, 4).manifest).created_at_us
    assert stats.collect(store.environment, created_us + 3_000_000)["backlog_age_s"] == 3.0


def test_store_in_which_nothing_waits_has_no_backlog(store):
    assert store.stats()["backlog_age_s"] is None


def test_charts_show_each_day_the_present_one_last_and_the_latencies_of_one(store):
    day_us = 24 * HOUR_US
    start_us = NOW_US // day_us * day_us
    counted(store, start_us - 3 * day_us - 1, commits=99, commit_stored_bytes=99)
    counted(store, start_us - 3 * day_us, commits=4, commit_stored_bytes=40)
    counted(store, start_us - 2 * day_us + 5 * HOUR_US, commits=2, exported=5)
    counted(
        store, start_us - 2 * day_us + 6 * HOUR_US, commits=1, commit_stored_bytes=7, **{"commit_us.3": 8}
    )
    counted(store, NOW_US, commits=6, exported=1, commit_stored_bytes=60, **{"commit_us.2": 5})
    counted(store, start_us + day_us + HOUR_US, commits=77, commit_stored_bytes=77)
    found = stats.charts(store.environment, NOW_US, days=4)
    assert found["commits_by_day"] == [4, 3, 0, 6]
    assert found["stored_bytes_by_day"] == [40, 7, 0, 60]
    assert found["backlog_by_day"] == [4, -2, 0, 5]
    assert found["latency_bounds_us"] == list(metrics.LATENCY_BOUNDS_US)
    assert found["latency_counts"] == [0, 0, 5] + [0] * (len(metrics.LATENCY_BOUNDS_US) - 2)
    assert len(stats.charts(store.environment, NOW_US)["commits_by_day"]) == 30


def test_exposition_shows_failures_by_reason_bytes_by_kind_and_times(store):
    counted(
        store, commits=4, rollbacks=2, secret_detections=3, secret_refusals=1, exported=5, export_failures=6,
        pushed=3, push_failures=1, commit_raw_bytes=900, commit_stored_bytes=300, last_commit_at_us=NOW_US - 500_000,
        commit_failures__invalid_input=7, commit_failures__other=8, commit_failures__unexpected=9,
    )  # fmt: skip
    counted(store, **{"commit_us": 2_500_000, "commit_us.0": 3, "commit_us.20": 1})
    found = samples(rendered(store))
    for name, value in {
        "rollbacks": 2, "secret_detections": 3, "secret_refusals": 1, "exported_runs": 5, "export_failures": 6,
        "pushed_runs": 3, "push_failures": 1,
    }.items():  # fmt: skip
        assert found[f"cas_{name}_total"] == value
    reasons = {
        reason: found[f'cas_commit_failures_total{{reason="{reason}"}}']
        for reason in exposition.FAILURE_REASONS
    }
    assert reasons == {"invalid_input": 7, "storage": 0, "other": 8, "unexpected": 9}
    assert found['cas_committed_bytes_total{kind="raw"}'] == 900
    assert found['cas_committed_bytes_total{kind="stored"}'] == 300
    assert found['cas_storage_growth_bytes{kind="raw"}'] == 900
    assert found['cas_storage_growth_bytes{kind="stored"}'] == 300
    assert found['cas_storage_growth_bytes{kind="file"}'] == 0
    assert found["cas_last_commit_timestamp_seconds"] == (NOW_US - 500_000) / 1_000_000
    assert "cas_last_push_timestamp_seconds" not in found
    assert found["cas_push_success_rate"] == 0.75
    assert found["cas_commit_duration_seconds_sum"] == 2.5
    assert found['cas_commit_duration_seconds_bucket{le="0.0005"}'] == 3
    assert found['cas_commit_duration_seconds_bucket{le="5.0"}'] == 3
    assert (
        found['cas_commit_duration_seconds_bucket{le="10.0"}']
        == found["cas_commit_duration_seconds_count"]
        == 4
    )
    figures = store.stats()
    for kind in ("file", "used", "stored", "index"):
        assert found[f'cas_store_bytes{{kind="{kind}"}}'] == figures[f"{kind}_bytes"]


def test_exposition_says_what_each_metric_means(store):
    text = rendered(store)
    for name, told in {
        "commit_failures_total": "Commits refused or failed",
        "committed_bytes_total": "Bytes of stored runs",
        "storage_growth_bytes": "Growth in 30 days",
        "store_bytes": "Size of the store",
        "commit_duration_seconds": "Time of a successful commit, flush included; a repeated one counts",
        "disk_free_bytes": "Free bytes on the store's disk",
        "commits_total": "Runs stored",
    }.items():
        assert f"# HELP cas_{name} {told}\n" in text
    counted(store, last_commit_at_us=5)
    assert "# HELP cas_last_commit_timestamp_seconds When the last commit was\n" in rendered(store)


def test_exposition_without_its_library_is_refused_by_name(store, monkeypatch):
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    with pytest.raises(ConfigError, match="prometheus_client"):
        exposition.render(store.environment, store.now_us)
