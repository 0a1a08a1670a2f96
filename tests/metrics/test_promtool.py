"""What Prometheus' own tool says of the shipped rules and of the exposition."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from cas import ArtifactStore, ArtifactStoreConfig, exposition

RULES = Path(__file__).parents[2] / "docs" / "alerts.rules.yml"
PROMTOOL = shutil.which("promtool", path=os.pathsep.join((f"{sys.prefix}/bin", os.environ.get("PATH", ""))))
pytestmark = pytest.mark.skipif(PROMTOOL is None, reason="promtool is not installed: make setup-promtool")

# Counters over 70 minutes, a value each minute: what one adds to them in the last ten.
QUIET = {"commits": 0, "failures": 0, "pushed": 0, "push_failures": 0, "secrets": 0, "rollbacks": 0}
NAMES = {
    "commits": "cas_commit_duration_seconds_count",
    "failures": 'cas_commit_failures_total{reason="storage"}',
    "pushed": "cas_pushed_runs_total",
    "push_failures": "cas_push_failures_total",
    "secrets": "cas_secret_detections_total",
    "rollbacks": "cas_rollbacks_total",
}
CASES = {
    "nothing happens": ({}, set()),
    "one failure among two commits": ({"failures": 1, "commits": 1}, set()),
    "four of a hundred fail": ({"failures": 4, "commits": 96}, set()),
    "ten of a hundred fail": ({"failures": 10, "commits": 90}, {"CasCommitFailures"}),
    "all of five fail": ({"failures": 5}, {"CasCommitFailures"}),
    "eight of a hundred pushes fail": ({"push_failures": 8, "pushed": 92}, set()),
    "twenty of a hundred pushes fail": ({"push_failures": 20, "pushed": 80}, {"CasPushFailures"}),
    "a secret": ({"secrets": 1}, {"CasSecretDetected"}),
    "a rollback": ({"rollbacks": 1}, {"CasRollback"}),
}


def promtool(*words, **options):
    done = subprocess.run(
        [PROMTOOL, *words], check=False, capture_output=True, text=True, timeout=60, **options
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_rules_file_is_accepted():
    promtool("check", "rules", str(RULES))


def case(changes, expected):
    """Return one test of `promtool test rules`: the alerts of an hour in whose last ten minutes counters rose."""
    series = [
        {"series": NAMES[key], "values": f"0x60 {' '.join([str(added)] * 10)}"}
        for key, added in (QUIET | changes).items()
    ]
    text = RULES.read_text()
    alerts = ("CasCommitFailures", "CasPushFailures", "CasSecretDetected", "CasRollback")
    return {
        "interval": "1m",
        "input_series": series,
        "alert_rule_test": [
            {
                "eval_time": "69m",
                "alertname": name,
                "exp_alerts": [fired(text, name)] if name in expected else [],
            }
            for name in alerts
        ],
    }


def fired(text, name):
    """Return an alert as the rules file words it."""
    lines = [line.strip() for line in text.split(f"- alert: {name}\n")[1].split("- alert:")[0].splitlines()]
    said = dict(line.split(": ", 1) for line in lines if ": " in line)
    notes = {key: said[key].strip('"') for key in ("summary", "description")}
    return {"exp_labels": {"severity": said["severity"]}, "exp_annotations": notes}


@pytest.mark.parametrize("name", CASES)
def test_rules_fire_when_the_contract_says(name, tmp_path):
    changes, expected = CASES[name]
    document = {"rule_files": [str(RULES)], "tests": [case(changes, expected)]}
    (tmp_path / "test.json").write_text(json.dumps(document))  # YAML takes JSON as it is
    promtool("test", "rules", str(tmp_path / "test.json"))


def test_exposition_is_accepted(tmp_path):
    pytest.importorskip("prometheus_client", reason="the extra `metrics` is not installed")
    with ArtifactStore(ArtifactStoreConfig(repo_path=tmp_path)) as store:
        store.commit_artifacts("w", "t", {"a.txt": b"1"}, correlation_id="c")
        store.flush_metrics()
        text = exposition.render(store.environment, store.now_us).decode()
    promtool("check", "metrics", input=text)
