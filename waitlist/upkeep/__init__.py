"""The ledger as a whole: checks, snapshots, a torn tail, what gateways do besides."""
