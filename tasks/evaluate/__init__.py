"""Measure how well a store answers: judged queries in, metrics with intervals out."""
