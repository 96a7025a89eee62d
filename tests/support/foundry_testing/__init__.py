"""What tests share: importable here, in processes that a test starts, and by type checkers."""
