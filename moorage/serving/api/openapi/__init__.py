"""The OpenAPI document, a file a subject: each has `paths()`, from path to its operations."""
