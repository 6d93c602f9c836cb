"""The ledger: which order asked the NMP for what, what came back, and whose every passport is."""
