"""Jobs from the database: webhooks."""
