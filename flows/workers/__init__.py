"""Workers that run trials, here or on other machines."""
