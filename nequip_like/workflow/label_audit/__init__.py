"""The audit of labels: small models judge frames that they have not seen, and what stands far out is named."""
