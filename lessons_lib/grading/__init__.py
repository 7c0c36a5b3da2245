"""Hands assignments out and grades what comes back."""
