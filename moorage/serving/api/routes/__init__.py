"""The routes, a file a subject: each has `add_routes(app)`."""
