"""Fraud: score a card payment before it is approved; learn the truth from chargebacks days later."""
