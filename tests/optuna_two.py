"""A SQLite storage as Optuna 2.10 left it: its tables and a few trials, written as plain SQL."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

_TABLES = """
CREATE TABLE studies (
    study_id INTEGER NOT NULL PRIMARY KEY, study_name VARCHAR(512) NOT NULL);
CREATE UNIQUE INDEX ix_studies_study_name ON studies (study_name);
CREATE TABLE version_info (
    version_info_id INTEGER NOT NULL PRIMARY KEY, schema_version INTEGER,
    library_version VARCHAR(256), CHECK (version_info_id = 1));
CREATE TABLE study_directions (
    study_direction_id INTEGER NOT NULL PRIMARY KEY, direction VARCHAR(8) NOT NULL,
    study_id INTEGER NOT NULL REFERENCES studies (study_id), objective INTEGER NOT NULL,
    UNIQUE (study_id, objective));
CREATE TABLE study_user_attributes (
    study_user_attribute_id INTEGER NOT NULL PRIMARY KEY,
    study_id INTEGER REFERENCES studies (study_id), "key" VARCHAR(512), value_json TEXT,
    UNIQUE (study_id, "key"));
CREATE TABLE study_system_attributes (
    study_system_attribute_id INTEGER NOT NULL PRIMARY KEY,
    study_id INTEGER REFERENCES studies (study_id), "key" VARCHAR(512), value_json TEXT,
    UNIQUE (study_id, "key"));
CREATE TABLE trials (
    trial_id INTEGER NOT NULL PRIMARY KEY, number INTEGER,
    study_id INTEGER REFERENCES studies (study_id), state VARCHAR(8) NOT NULL,
    datetime_start DATETIME, datetime_complete DATETIME);
CREATE TABLE trial_user_attributes (
    trial_user_attribute_id INTEGER NOT NULL PRIMARY KEY,
    trial_id INTEGER REFERENCES trials (trial_id), "key" VARCHAR(512), value_json TEXT,
    UNIQUE (trial_id, "key"));
CREATE TABLE trial_system_attributes (
    trial_system_attribute_id INTEGER NOT NULL PRIMARY KEY,
    trial_id INTEGER REFERENCES trials (trial_id), "key" VARCHAR(512), value_json TEXT,
    UNIQUE (trial_id, "key"));
CREATE TABLE trial_params (
    param_id INTEGER NOT NULL PRIMARY KEY, trial_id INTEGER REFERENCES trials (trial_id),
    param_name VARCHAR(512), param_value FLOAT, distribution_json TEXT,
    UNIQUE (trial_id, param_name));
CREATE TABLE trial_values (
    trial_value_id INTEGER NOT NULL PRIMARY KEY,
    trial_id INTEGER NOT NULL REFERENCES trials (trial_id), objective INTEGER NOT NULL,
    value FLOAT NOT NULL, UNIQUE (trial_id, objective));
CREATE TABLE trial_intermediate_values (
    trial_intermediate_value_id INTEGER NOT NULL PRIMARY KEY,
    trial_id INTEGER NOT NULL REFERENCES trials (trial_id), step INTEGER NOT NULL,
    intermediate_value FLOAT NOT NULL, UNIQUE (trial_id, step));
CREATE TABLE trial_heartbeats (
    trial_heartbeat_id INTEGER NOT NULL PRIMARY KEY,
    trial_id INTEGER NOT NULL UNIQUE REFERENCES trials (trial_id), heartbeat DATETIME NOT NULL);
CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL PRIMARY KEY);
"""
_ROWS = """
INSERT INTO alembic_version VALUES ('v2.6.0.a');
INSERT INTO version_info VALUES (1, 12, '2.10.1');
INSERT INTO studies VALUES (1, 'two');
INSERT INTO study_directions VALUES (1, 'MAXIMIZE', 1, 0);
INSERT INTO study_user_attributes VALUES (1, 1, 'who', '"me"');
INSERT INTO trials VALUES
    (1, 0, 1, 'COMPLETE', '2021-11-26 02:42:23.064031', '2021-11-26 02:42:25.564031'),
    (2, 1, 1, 'RUNNING', '2021-11-26 02:42:24.000000', NULL),
    (3, 2, 1, 'PRUNED', '2021-11-26 02:42:25.000000', '2021-11-26 02:42:26.000000'),
    (4, 3, 1, 'WAITING', NULL, NULL),
    (5, 4, 1, 'FAIL', '2021-11-26 02:42:27.000000', '2021-11-26 02:42:28.500000');
INSERT INTO trial_system_attributes VALUES (1, 4, 'fixed_params', '{"x": 1.0}');
INSERT INTO trial_user_attributes VALUES (1, 1, 'note', '{"a": [1, 2]}');
INSERT INTO trial_values VALUES (1, 1, 0, 1.5), (2, 3, 0, 0.25);
INSERT INTO trial_intermediate_values VALUES (1, 1, 0, 0.5), (2, 1, 1, 1.5), (3, 3, 0, 0.25);
"""
_DOMAINS = {
    "x": '{"name": "UniformDistribution", "attributes": {"low": -5.0, "high": 5.0}}',
    "rate": '{"name": "LogUniformDistribution", "attributes": {"low": 1e-05, "high": 1.0}}',
    "y": '{"name": "DiscreteUniformDistribution",'
    ' "attributes": {"low": 0.0, "high": 1.0, "q": 0.1}}',
    "n": '{"name": "IntUniformDistribution", "attributes": {"low": 1, "high": 9, "step": 2}}',
    "width": '{"name": "IntLogUniformDistribution",'
    ' "attributes": {"low": 1, "high": 64, "step": 1}}',
    "kind": '{"name": "CategoricalDistribution", "attributes": {"choices": ["a", null, 3, true]}}',
}
_VALUES = {"x": -0.5, "rate": 0.001, "y": 0.2, "n": 3.0, "width": 8.0, "kind": 1.0}
PARAMS = {"x": -0.5, "rate": 0.001, "y": 0.2, "n": 3, "width": 8, "kind": None}


def make_storage(path: Path) -> str:
    """Write the file; its URL."""
    with closing(sqlite3.connect(path)) as database:
        database.executescript(_TABLES + _ROWS)
        database.executemany(
            "INSERT INTO trial_params (trial_id, param_name, param_value, distribution_json) "
            "VALUES (1, ?, ?, ?)",
            [(name, _VALUES[name], _DOMAINS[name]) for name in _DOMAINS],
        )
        database.commit()
    return f"sqlite:///{path}"
