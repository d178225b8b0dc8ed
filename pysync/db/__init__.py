"""Connections, SQL files and what PostgreSQL's errors mean; the layer that talks to servers."""
