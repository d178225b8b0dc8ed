"""Files for those who monitor pysync: a Grafana dashboard, and alert rules for Prometheus."""
