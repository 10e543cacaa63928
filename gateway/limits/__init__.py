"""An account's requests and tokens: what its plan allows, charged, corrected and told."""
