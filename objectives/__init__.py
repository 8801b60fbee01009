"""Objectives: what a trial trains. They know nothing of the orchestrator but a trial's surface."""
