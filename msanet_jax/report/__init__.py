"""Curves, pictures and pages made of finished runs."""
