"""The database: models, transactions, history and migrations; no business rules."""
