"""The worker: what is this item's outcome?

Nouns
  session   this process's life as the scheduler knows it
  lease     the right to execute one item under an attempt number
  batch     what a processor takes at once

`agent.py` holds the session (acquire, report, renew, top up), `held.py` knows every lease, `runner.py` runs processors,
`outcomes.py` says what came of them; `services.py` holds the channels that processors are given.

States of a lease here: held -> begun -> reported -> gone; or revoked at any time, and then its outcome is not reported.

Failure story
  this process dies
      Its leases return at once by the backend's word, else when their term is over. Nothing else is lost.
  the scheduler is away
      Processors go on, and what waits is begun while the trust window lasts. Outcomes wait and are reported again.
  the trust window closes
      What has not begun is dropped. What runs goes on; its late report is accepted only if the fence still holds.
  every lease of a call is revoked
      Its processor is told, and cancelled 5 s later. What it cost is reported all the same: refused, and counted.
  a processor raises, hangs or answers nonsense
      Its own items fail; where they must not be done twice, as `unknown`.
  SIGTERM
      Stop acquiring, hand back what has not begun, finish what fits the grace, release the rest.
"""
