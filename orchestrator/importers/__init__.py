"""Imports: studies of other tools, taken over with their trials."""
