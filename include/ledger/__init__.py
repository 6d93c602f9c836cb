"""The ledger: which order asked the NMP for what, what came back, and which order has which passport."""
