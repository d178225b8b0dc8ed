"""Look for what will stop replication, and what would make it better."""
