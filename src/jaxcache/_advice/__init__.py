"""Suggestions from statistics."""
