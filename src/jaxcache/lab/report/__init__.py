"""Reports of sweeps: markdown, pages, tables and charts."""
