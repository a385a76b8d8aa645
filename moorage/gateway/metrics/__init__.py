"""What Prometheus is told: plain numbers, written on every request and read once in a while."""
