"""Shape buckets: their choice, padding, trimming, and the check that padding is right."""
