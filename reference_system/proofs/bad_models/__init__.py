"""Bad models: trainings and bundles with a planted fault, put before the gate, the guardrails and the verifier."""
