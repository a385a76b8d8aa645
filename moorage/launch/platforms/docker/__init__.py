"""What local-docker and brev share: one Docker engine, its containers, its faults."""
