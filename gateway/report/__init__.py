"""The report of a job: one page that needs nothing else.

`gathering` reads what it shows, within bounds; `page` puts the sections together; `sections`, `heatmap` and `texts`
draw them. The page holds everything (styles, script, image data) and loads nothing; its policy allows only the style
and the script that it was made with, by their hashes, so that nothing in a document can run. It is bounded: past some
thousand documents it says what it left out.
"""
