"""Authentication, rate limits and the audit log."""
