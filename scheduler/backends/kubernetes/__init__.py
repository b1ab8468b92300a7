"""Workers as bare pods.

    view.py      what there is, by list and watch        classes.py   what may be, by the chart's file
    backend.py   the loop: read, decide, carry out       template.py  what a pod is made from
    doing.py     what is done about pods                 api.py       calls of the API server
    facts.py     what SQL says of work and sessions      surroundings.py   what all workers are told

What to do is decided by `scheduler.domain.pods`, from what the API server says (`view`) and what SQL says of sessions
and work; nothing is counted from memory. Only the scheduler that leads acts, and one that wrongly believes so does no
harm (see `scheduler.backends`). The client library is imported by `api.py` on first use.

Failure story: the API server is away or hangs: calls end by their time-outs, the view is no longer fresh, and nothing
is done until it is; work goes on meanwhile. A watch that ends, or is too old (410), begins with a list again; so it
does each minute, whatever was missed.
"""
