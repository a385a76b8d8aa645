"""The store in a PostgreSQL database, for gateways on any number of machines."""
