"""The Grafana dashboard asks for metrics that there are."""

from __future__ import annotations

import json
import re
from pathlib import Path

from conftest import Orch
from prometheus_client import CollectorRegistry

from orchestrator.serve.metrics import StudyMetrics
from orchestrator.storage.database import Database

DASHBOARD = Path(__file__).parents[2] / "deploy" / "grafana" / "orch.json"


def test_every_metric_of_the_dashboard_is_served(stored: Database) -> None:
    registry = CollectorRegistry()
    StudyMetrics(Database(stored.url), None, registry)
    served = {sample.name for family in registry.collect() for sample in family.samples}
    dashboard = json.loads(DASHBOARD.read_text())
    asked = set(re.findall(r"\borch_\w+", json.dumps(dashboard["panels"])))
    assert asked and asked <= served
    assert served & {"orch_trials", "orch_live_workers", "orch_epoch_seconds"} <= asked


def test_an_unknown_duration_hides_no_metric(orch: Orch, url: str, name: str) -> None:
    orch.ok("run", "quadratic", "--study", name, "--trials", "2", "--workers", "1")
    # As an import writes it of a trial whose end nobody knows.
    Database(url).execute(
        "UPDATE trial_user_attributes SET value_json = 'null' WHERE key = 'orch:seconds'"
        " AND trial_id = (SELECT max(trial_id) FROM trials JOIN studies USING (study_id)"
        " WHERE study_name = %(name)s)",
        {"name": name},
    )
    registry = CollectorRegistry()
    StudyMetrics(Database(url), name, registry)
    found = {s.name: s.value for family in registry.collect() for s in family.samples}
    assert found["orch_storage_up"] == 1 and found["orch_epoch_seconds"] > 0


def test_an_unreachable_storage_is_a_metric_and_one_outage() -> None:
    registry = CollectorRegistry()
    StudyMetrics(Database("postgresql://nobody@127.0.0.1:1/none"), None, registry)
    for _ in range(2):
        found = {s.name: s.value for family in registry.collect() for s in family.samples}
    assert found["orch_storage_up"] == 0
    assert found["orch_storage_outages_total"] == 1
