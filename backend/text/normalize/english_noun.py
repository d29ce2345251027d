"""English things that are counted, by the thousand and the million."""

NOUNS = (
    r"(?:people|users|views|viewers|followers|subscribers|copies|downloads|visitors|residents|"
    r"inhabitants|customers|members|households|homes|jobs|workers|employees|barrels|tonnes|tons|cars|"
    r"vehicles|units|shares|streams|plays|listeners|readers|votes|voters|tourists|passengers|adults|"
    r"children|students|pupils|patients|deaths|cases|doses|tests|items|records|rows|tokens|parameters|"
    r"requests|hits|clicks|likes|messages|dollars|euros|pounds|rupees|yen|years|hectares|acres|refugees|"
    r"migrants|soldiers|players|sales|books|times|others|more|women|men|families|accounts|devices|"
    r"phones|visits|sessions|installs|posts|tweets|photos|videos|songs|games|articles|pages|words|"
    r"characters|bytes|pixels|transactions|orders|products|businesses|companies|farmers|drivers|"
    r"cyclists|commuters|gallons|litres|liters|trees|birds|animals|cattle|species|[A-Z][a-z]+(?:s|ese))"
)
"""One of them, as a pattern; a people's name, "Americans", too."""
