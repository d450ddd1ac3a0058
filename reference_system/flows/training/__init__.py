"""Training put together: trained model → bundle, evidence for the gate, record for MLflow and the model card."""
