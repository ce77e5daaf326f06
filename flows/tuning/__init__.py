"""The flow of a tuning."""
