"""Recorded requests, replayed under any policy and limit, and the certified bound."""
