"""The worker: what is this item's outcome?

Nouns: a *session* is this process's life as the scheduler knows it; a *lease* is the right to execute one item under
an attempt number; a *batch* is what a processor takes at once. `agent.py` holds the session (acquire, report, renew),
`held.py` knows every lease, `runner.py` runs processors.

States of a lease here: held -> begun -> reported -> gone; or revoked at any time, and then its outcome is not reported.

Failure story
  this process dies           its leases return at once by the backend's word, else when their term is over; nothing
  else is lost. the scheduler is away       processors go on while their trust window lasts; outcomes wait and are
  reported again, the same bytes each time. the trust window closes     what has not begun is dropped; what runs goes
  on, and its late report is accepted only if the fence still holds. SIGTERM                     stop acquiring, hand
  back what has not begun, finish what fits the grace, release the rest.
"""
