"""The value types."""
