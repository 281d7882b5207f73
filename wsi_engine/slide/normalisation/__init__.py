"""Colour normalisation: a slide made to look like another.

What a slide looks like is found once, on tissue sampled from all of it (``looks``); from the
looks of a slide and of a target comes a map from colours to colours that is applied to every
tile alike. Nothing is ever fitted to a tile, so its neighbours agree.
"""
