"""Bad models: trainings and bundles with a planted fault, run through the gate, the guardrails and the verifier."""
