"""The reference system: one loop from events to decisions and back.

```
world ──► Kafka topics ──► ingestion ──► event lake (Delta) ──► features ──► training ──► registry
                              │   └──► dead-letter topics          │ Parquet     (MLflow)    │ verified
                              ▼                                    ▼ (Feast)                 ▼ bundle
                        stream features ──► online store (Feast) ──────────────────────► serving
                                                                                             │
          monitoring ◄── feedback (mature labels) ◄── prediction log (Kafka) ◄───────────────┘
               └──► retrain
```

Data flows in a circle; imports point only down (`[tool.importlinter]` in pyproject.toml holds the layers).
Importing this package does nothing.
"""
