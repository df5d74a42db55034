"""The embedded suite: problems of every task, made and scored without a hub."""
