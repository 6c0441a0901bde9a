"""The Python half of the example: a web application and a worker that share a redis."""
