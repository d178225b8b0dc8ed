"""Show reports to browsers and to Prometheus, made again and again in the background."""
