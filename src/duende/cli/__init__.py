"""The command line: one verb, one file. It speaks to the manager through the API and imports nothing heavy."""
