"""slurm: services as batch jobs; `platform` is the contract, the other files its parts."""
