"""The manager's API: wire types, the route table, the server on a Unix socket, and a client that imports little."""
