"""Side by side with rivals: one process a rival, the same problems, JSON records, tables and figures."""
