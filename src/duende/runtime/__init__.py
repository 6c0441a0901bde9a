"""The asyncio shell: what performs the core's effects on a real machine."""
