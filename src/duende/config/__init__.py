"""Configuration: the schema, loading, layering, units. Import from the modules; nothing heavy happens here."""
