"""The winner: replayed, confirmed, retrained on all data, and shown."""
