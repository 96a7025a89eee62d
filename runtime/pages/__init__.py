"""Pages of HTML that need no network: their frame, tables and charts."""
