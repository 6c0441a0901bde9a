"""Values only: no input, no output, no clock. Import from the modules; nothing is re-exported here."""
