"""Processors that are declared in a file: any program that takes JSON and gives JSON.

Nouns
  declaration   one TOML file, NAME.toml, in the folder of the setting `processors`; its version is VERSION+HASH12
  program       what its argv names, started anew for each item
  keeper        a small process beside a worker that starts programs, and its watcher of each

`declaration.py` reads and checks a file, with `places.py` (lines), `templates.py` (placeholders) and `schemas.py` (JSON
Schema); `folder.py` knows all that plans may name; `command.py` is the processor; `programs.py` runs programs through
`keeper.py`; `answers.py` says what came of one.

Failure story
  a declaration is wrong
      It is listed with what is wrong; the others are as they were.
  a declaration changes
      Its version is another: plans made before are no longer served, what runs goes on with what it began with.
  a program hangs, eats memory or prints without end
      It is ended with everything it has started, and its item fails and says so.
  the worker dies, by kill -9 too
      The watcher of each program sees it, ends the program with everything it has started, and removes its folder.
  the keeper dies
      Its watchers go on; the next item starts another keeper.
  a watcher dies
      Its program dies with it; the keeper ends what that had started. The item fails.
"""
