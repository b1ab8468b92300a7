"""What the analyzer knows about texts, as pure functions: no gRPC, no SQL, no HTTP, no clock.

One document:   tokens -> segmentation -> lexicon -> windows -> detector (with reasons) ; sketch
Many of them:   sketch -> vectors -> neighbours -> clusters, duplicates -> collection
"""
