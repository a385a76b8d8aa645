"""lepton: services as endpoints; `platform` is the contract, the other files its parts."""
