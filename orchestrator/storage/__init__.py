"""PostgreSQL: connections, the embedded server, the schema, and Optuna's storage on it."""
