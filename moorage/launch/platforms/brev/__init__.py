"""brev: services as containers on rented instances; `platform` is the contract, the other files its parts."""
