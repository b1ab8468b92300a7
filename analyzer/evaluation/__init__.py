"""Training and measuring the detector and the clusters: `python -m analyzer.evaluation train|evaluate`.

Run by people, never by a service. The corpora stay where they are; what leaves here is a model file of plain numbers
and tables of results.
"""
