"""One model call within a session: read, planned, asked, made durable, replied."""
