"""Settings and the discussion service's outbox: tables of the portal, in schema pysync."""
