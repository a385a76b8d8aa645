"""kill -9 of the gateway at random under load, and what its store holds afterwards."""
