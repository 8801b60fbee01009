"""The objectives that come with orch, loaded as ``orchestrator.training.builtin``."""
