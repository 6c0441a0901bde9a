"""What duende's own tests use and users may too. Import from the modules."""
